"""The examples for clusters: by their schemas and parsers, and run with a cluster's commands replaced."""

import importlib
import itertools
import json
import os
import pathlib
import re
import shlex
import stat
import subprocess
import time

import kubernetes_validate
import pytest
import yaml

from dcign_tf.distribution import Place, read_tf_config

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted((EXAMPLES / "slurm").glob("*.sh"))

# Options of sbatch by its manual page, with what their values look like.
SBATCH = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]?",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "signal": r"([RB]+:)?(\d+|[A-Z0-9]+)(@\d+)?",
    "requeue": None,
    "open-mode": "append|truncate",
    "output": r"[\w%./-]+",
}


def resources(path):
    return list(yaml.safe_load_all(path.read_text()))


def containers():
    for path in MANIFESTS:
        for resource in resources(path):
            if "template" in resource["spec"]:
                pod = resource["spec"]["template"]["spec"]
                for container in pod["containers"]:
                    yield resource, pod, container


def check_flags(words):
    """Asserts that a command of this package knows the flags that it is given."""
    module = importlib.import_module(f"dcign_tf.cli.{words[0].removeprefix('dcign-')}")
    names = [match[1] for word in words[1:] if (match := re.match(r"--(\w+)", word))]
    assert names
    for name in names:
        assert name in module.FLAGS, f"{words[0]} has no --{name}"
    values = [word for word in words[1:] if re.match(r"--\w+=[^$]*$", word)]
    module.FLAGS.unparse_flags()
    module.FLAGS([words[0], *values])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path):
    for resource in resources(path):
        for version in ("1.29", "1.37"):
            kubernetes_validate.validate(resource, version, strict=True)


def test_what_belongs_together_in_kubernetes_has_the_same_names():
    everything = list(itertools.chain.from_iterable(map(resources, MANIFESTS)))
    by_kind = {
        kind: [r for r in everything if r["kind"] == kind]
        for kind in ("Service", "PersistentVolumeClaim")
    }
    labels = [r["spec"]["template"]["metadata"]["labels"] for r, _, _ in containers()]
    for service in by_kind["Service"]:
        assert service["spec"]["selector"] in labels
    claims = {claim["metadata"]["name"] for claim in by_kind["PersistentVolumeClaim"]}
    services = {service["metadata"]["name"]: service["spec"] for service in by_kind["Service"]}
    for resource, pod, container in containers():
        selector = resource["spec"].get("selector", {}).get("matchLabels")
        assert selector in (None, resource["spec"]["template"]["metadata"]["labels"])
        volumes = {
            v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod.get("volumes", [])
        }
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes.keys()
        assert set(volumes.values()) <= claims
        assert pod.get("subdomain", "dcign-train") in services
        # Services lead to ports that containers open.
        for service in services.values():
            if service["selector"] == resource["spec"]["template"]["metadata"]["labels"]:
                opened = {port["containerPort"] for port in container["ports"]}
                assert {port["port"] for port in service["ports"]} == opened


def test_commands_in_manifests_have_flags_that_there_are():
    seen = set()
    for _, _, container in containers():
        if (command := container.get("command", [""]))[0].startswith("dcign-"):
            check_flags(command)
            seen.add(command[0])
    assert seen == {"dcign-data", "dcign-export"}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Puts commands in the place of a cluster's; returns a function that makes one and reads what dcign-* were told."""

    def fake(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    told = tmp_path / "told"
    for name in ("dcign-train", "dcign-data"):
        fake(
            name,
            f'echo "${{TF_CONFIG:-}}" | tr -d "\\n" >>{told}; echo "|{name} $*" >>{told}; exit ${{STATUS:-0}}',
        )
    fake(
        "scontrol",
        f'if [ "$1" = requeue ]; then echo "|requeue $2" >>{told}; else echo node7; echo node8; fi',
    )
    # One task after the other, as many as Slurm would start.
    fake(
        "srun",
        'while [[ $1 == --* ]]; do shift; done\nfor i in 0 1; do SLURM_PROCID=$i "$@" || exit $?; done',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return lambda: [line.split("|") for line in told.read_text().splitlines()]


def test_the_job_of_kubernetes_gives_each_worker_its_place(fakes):
    ((job, pod, container),) = [c for c in containers() if "TF_CONFIG" in str(c[2])]
    count = job["spec"]["completions"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert job["spec"]["parallelism"] == count == int(environment["WORKERS"])
    for index in range(count):
        pod_environment = {**os.environ, **environment, "JOB_COMPLETION_INDEX": str(index)}
        subprocess.run([*container["command"], *container["args"]], env=pod_environment, check=True)
    name, port = job["metadata"]["name"], container["ports"][0]["containerPort"]
    for index, (text, command) in enumerate(fakes()):
        place = read_tf_config(text)
        assert place.index == index
        assert place.addresses == tuple(
            f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(count)
        )
        check_flags(command.split())
        groups = int(re.findall(r"groups_per_step=(\d+)", command)[0])
        assert groups % (count * container["resources"]["limits"]["nvidia.com/gpu"]) == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_what_bash_and_slurm_take(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert options
    for option in options:
        name, equals, value = option.removeprefix("--").partition("=")
        assert option.startswith("--") and name in SBATCH, option
        pattern = SBATCH[name]
        assert bool(equals) == (pattern is not None) and re.fullmatch(pattern or "", value), option
    # Slurm reads no further than the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(0, "0", False), (1, "0", True), (143, "3", True), (2, "0", False), (1, "20", False)],
)  # fmt: skip
def test_the_job_of_slurm_places_its_workers_and_queues_again(fakes, status, restarts, again):
    environment = {
        **os.environ, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "42", "SLURM_RESTART_COUNT": restarts,
        "STATUS": str(status),
    }  # fmt: skip
    arguments = ["--workdir=runs/my faces", "--groups_per_step=8"]
    done = subprocess.run(["bash", str(EXAMPLES / "slurm/train.sh"), *arguments], env=environment)
    assert done.returncode == status
    *workers, last = [*fakes(), ["", ""]] if not again else fakes()
    assert (last[1] == "requeue 42") == again
    assert len(workers) == (1 if status else 2)
    for index, (text, command) in enumerate(workers):
        assert read_tf_config(text) == Place(index, ("node7:2222", "node8:2222"))
        assert command.endswith(" ".join(arguments))
        check_flags(shlex.split(command.replace("my faces", "mine")))


def test_the_rendering_job_of_slurm_starts_a_dispatcher_and_workers(fakes):
    environment = {**os.environ, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_CPUS_PER_TASK": "32"}
    script = str(EXAMPLES / "slurm/render.sh")
    done = subprocess.run(
        ["bash", script, "--image_size=70"], env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout == "--data_service=grpc://node7:5050\n"
    while len(fakes()) < 3:  # The dispatcher is not waited for.
        time.sleep(0.05)
    commands = sorted(command for _, command in fakes())
    assert [re.findall(r"--serve=(\w+)", command)[0] for command in commands] == [
        "dispatcher", "worker", "worker",
    ]  # fmt: skip
    for command in commands:
        check_flags(command.split())
    assert "--dispatcher=grpc://node7:5050" in commands[1] and "--image_size=70" in commands[1]


def test_the_example_of_ray_is_python_and_reads_its_flags_as_it_says():
    source = (EXAMPLES / "ray/train.py").read_text()
    compile(source, "train.py", "exec")
    (command,) = re.findall(r"-- (--.*)", source)[:1]
    check_flags(["dcign-train", *command.split()])


def test_flags_that_there_are_not_would_be_seen():
    with pytest.raises(AssertionError, match="dcign-train has no --groups"):
        check_flags(["dcign-train", "--groups=3"])
    broken = json.loads(json.dumps(resources(MANIFESTS[0])[0]))
    broken["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)
