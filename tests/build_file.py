"""Writes the targets in BUILD: one for each source file, with the dependencies that its imports show.

`python3 run.py check` fails while BUILD and the sources disagree, `python3 run.py check --fix` writes it anew.
What stands in BUILD above the marker line is written by hand and kept.
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MARKER = "# Below: written by `python3 run.py check --fix` from the sources' imports."

# Tests that need no more than these run by default; the others are `manual`.
LIGHT = {"hypothesis", "numpy", "pytest"}

# Packages of PyPI whose import has another name.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "mpl_toolkits": "matplotlib",
    "tensorflow_probability": "tensorflow-probability",
    "tf_keras": "tf-keras",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}

# Files of this repository that no import shows; `:flags` and the like are declared by hand in BUILD.
_ROOT_FILES = ("BUILD", "LICENSE", "README.md", "pyproject.toml", "run.py", "setup.cfg", "setup.py")
_FILE_GROUPS = ("flags", "data", "saved_models")


def generate(root: pathlib.Path) -> str:
    """Returns the text of BUILD below the marker.

    Args:
        root: the checkout.
    """
    return _Sources(root).targets()


class _Sources:
    """The Python files of a checkout and what they import.

    Attributes:
        files: the text of each file by its path from the checkout.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        paths = [*root.glob("dcign_tf/**/*.py"), *root.glob("tests/**/*.py")]
        self.files = {
            path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(paths)
        }

    def targets(self) -> str:
        """All targets, one after the other."""
        packages = [
            file
            for file in self.files
            if file.startswith("dcign_tf/") and file.endswith("/__init__.py")
        ]
        tests = [file for file in self.files if file.endswith("_test.py")]
        helpers = [file for file in self.files if file.startswith("tests/") and file not in tests]
        modules = [
            file for file in self.files if file.startswith("dcign_tf/") and file not in packages
        ]
        direct = {self.label(file): self.dependencies(file) for file in self.files}
        # Importing a module runs its package's __init__.py first, and may need what that needs. Libraries cannot say
        # so, or a package and its modules would depend on each other; what is run says it in their place.
        running = {
            self.label(file): self.with_packages(direct, self.label(file))
            for file in self.files
            if file not in packages
        }
        blocks = [_rule("py_library", name="package", srcs=packages)]
        for file in packages:
            blocks.append(
                _rule(
                    "py_library",
                    name=self.label(file)[1:],
                    deps=[":package", *direct[self.label(file)]],
                )
            )
        for file in modules:
            deps = [":package", *direct[self.label(file)]]
            blocks.append(_rule("py_library", name=self.label(file)[1:], srcs=[file], deps=deps))
        for file in helpers:
            if file != "tests/bazel_main.py":
                deps = direct[self.label(file)]
                blocks.append(
                    _rule(
                        "py_library",
                        name=self.label(file)[1:],
                        srcs=[file],
                        deps=deps,
                        testonly=True,
                    )
                )
        for file in modules:
            if file.startswith("dcign_tf/cli/") and self.defines(file, "main_entry"):
                command = "dcign-" + pathlib.PurePosixPath(file).stem
                blocks.append(
                    _rule(
                        "py_binary",
                        name=command,
                        srcs=[file],
                        main=file,
                        deps=_in_order({self.label(file), *running[self.label(file)]}),
                    )
                )
        heavy = []
        for file in tests:
            label = self.label(file)
            needs = {
                name.removeprefix(":pypi/")
                for name in _closure(label, {**direct, label: running[label]})
                if name.startswith(":pypi/")
            }
            if needs - LIGHT:
                heavy.append(label)
            blocks.append(
                _rule(
                    "py_test",
                    name=label[1:],
                    size="medium",
                    srcs=[file, "tests/bazel_main.py", "tests/conftest.py"],
                    main="tests/bazel_main.py",
                    args=[file],
                    data=self.data(file),
                    tags=["manual"] if needs - LIGHT else [],
                    deps=running[label],
                )
            )
        blocks.append(_rule("test_suite", name="heavy_tests", tags=["manual"], tests=heavy))
        pypi = {name for deps in direct.values() for name in deps if name.startswith(":pypi/")}
        blocks[:0] = [_rule("py_library", name=name[1:]) for name in sorted(pypi)]
        return "\n\n".join(blocks) + "\n"

    def label(self, file: str) -> str:
        """The target of a file: `:scenes/render` for dcign_tf/scenes/render.py, `:dcign_tf` for the package itself."""
        if file == "dcign_tf/__init__.py":
            return ":dcign_tf"
        return ":" + re.sub(r"(/__init__)?\.py$", "", file).removeprefix("dcign_tf/")

    def dependencies(self, file: str) -> list[str]:
        """The targets of what a file imports, wherever in the file, or names in a string to import it later."""
        found: set[str] = set()
        tree = ast.parse(self.files[file])
        for node in ast.walk(tree):
            match node:
                case ast.Import():
                    for alias in node.names:
                        found |= self.resolve(alias.name)
                case ast.ImportFrom(module=str(module), level=0):
                    for alias in node.names:
                        found |= self.resolve(f"{module}.{alias.name}")
                case ast.Constant(value=str(text)) if re.fullmatch(r"dcign_tf(\.\w+)+", text):
                    # "dcign_tf.json" is a file's name, not a module's.
                    found |= self.resolve(text) - {":dcign_tf"}
        # A package's own modules get its __init__.py from `:package`; more would be a circle.
        around = {
            self.label(package)
            for package in self.files
            if package.endswith("/__init__.py")
            and file.startswith(package.removesuffix("__init__.py"))
        }
        return _in_order(found - around - {self.label(file)})

    def with_packages(self, direct: dict[str, list[str]], label: str) -> list[str]:
        """What a target states, and the packages of all modules it needs as far as their __init__.py import things."""
        packages = {
            self.label(file): file.removesuffix("__init__.py")
            for file in self.files
            if file.endswith("/__init__.py")
            and direct[self.label(file)]
            and file != "dcign_tf/__init__.py"
        }
        of_label = {self.label(file): file for file in self.files}
        deps = list(direct[label])
        while True:
            needed = _closure(label, {**direct, label: deps}) - {label}
            missing = {
                package
                for package, folder in packages.items()
                if package not in needed
                and any(of_label.get(name, "").startswith(folder) for name in needed | {label})
            }
            if not missing:
                return _in_order({*deps, *missing})
            deps = [*deps, *missing]

    def defines(self, file: str, function: str) -> bool:
        """Whether a file has a function of that name."""
        body = ast.parse(self.files[file]).body
        return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)

    def resolve(self, dotted: str) -> set[str]:
        """The target of `package.module.name`, if it is not Python's own."""
        parts = dotted.split(".")
        top = parts[0]
        if top in ("dcign_tf", "tests"):
            for length in range(len(parts), 0, -1):
                path = "/".join(parts[:length])
                for file in (f"{path}.py", f"{path}/__init__.py"):
                    if file in self.files:
                        return {self.label(file)}
            return set()
        if top in sys.stdlib_module_names or f"{top}.py" in _ROOT_FILES:
            return set()
        return {f":pypi/{_DISTRIBUTIONS.get(top, top)}"}

    def data(self, file: str) -> list[str]:
        """The files that a test reads besides Python's: those that its text names."""
        text = self.files[file]
        named = {name for name in _ROOT_FILES if f'"{name}"' in text}
        if re.search(r"^(import run$|from run import)", text, re.MULTILINE):
            named.add("run.py")
        groups = {f":{name}_files" for name in _FILE_GROUPS if re.search(rf'"{name}[/"]', text)}
        if file == "tests/build_file_test.py":
            groups.add(":sources")
        return [*sorted(groups), *sorted(named | {"pyproject.toml"})]


def _in_order(labels: set[str]) -> list[str]:
    return sorted(labels, key=lambda label: (label.startswith(":pypi/"), label))


def _closure(label: str, direct: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [label]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(direct.get(current, []))
    return seen


def _rule(kind: str, **attributes: str | bool | list[str]) -> str:
    """A target as Bazel's own formatter would write it."""
    lines = [f"{kind}("]
    for name, value in attributes.items():
        if isinstance(value, list) and len(value) > 1:
            lines.append(f"    {name} = [")
            lines += [f"        {_quoted(item)}," for item in value]
            lines.append("    ],")
        elif isinstance(value, list):
            if value:
                lines.append(f"    {name} = [{_quoted(value[0])}],")
        else:
            lines.append(f"    {name} = {value if isinstance(value, bool) else _quoted(value)},")
    lines.append(")")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return f'"{text}"'


def main(arguments: list[str]) -> int:
    """Writes BUILD, or with --check only says whether it is up to date."""
    path = ROOT / "BUILD"
    text = path.read_text("utf-8")
    head, marker, _ = text.partition(MARKER)
    new = f"{head}{marker}\n\n{generate(ROOT)}"
    if new == text:
        return 0
    if arguments == ["--check"]:
        print("BUILD does not fit the sources; `python3 run.py check --fix` mends it")
        return 1
    path.write_text(new, "utf-8")
    print("BUILD written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
