"""Training on a Ray cluster: Ray Train starts the workers, gives them their TF_CONFIG and starts them again.

    pip install 'ray[train]'
    python3 examples/ray/train.py --workers=2 -- --workdir=/shared/runs/faces --render_on_the_fly --groups_per_step=2

What stands behind the -- are flags of dcign-train; the workdir must be one that all nodes see.
"""

import argparse
import sys

import ray.train
import ray.train.tensorflow


def train(config: dict[str, list[str]]) -> None:
    """What each worker does; Ray starts all of them again when one raises."""
    from dcign_tf.cli import common
    from dcign_tf.cli import train as command

    argv = ["dcign-train", "--strategy=multi_worker", *config["flags"]]
    status = common.execute(command.main, command.FLAGS, argv)
    if status:
        raise RuntimeError(f"dcign-train ended with status {status}")


def main() -> None:
    """Starts the workers and waits for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="a GPU for each worker")
    parser.add_argument("flags", nargs="*", help="flags of dcign-train, behind a --")
    arguments = parser.parse_args()
    ray.train.tensorflow.TensorflowTrainer(
        train,
        train_loop_config={"flags": arguments.flags},
        scaling_config=ray.train.ScalingConfig(
            num_workers=arguments.workers, use_gpu=arguments.gpu
        ),
        run_config=ray.train.RunConfig(failure_config=ray.train.FailureConfig(max_failures=20)),
    ).fit()


if __name__ == "__main__":
    sys.exit(main())
