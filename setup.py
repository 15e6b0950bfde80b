"""How dcign_tf is installed: `pip install .`, or by run.py into an environment of its own."""

import pathlib

import setuptools

_COMMANDS = ("data", "train", "evaluate", "rerender", "export", "view", "benchmark")

_TABLES = ["pyarrow>=15"]  # Tables of images in Parquet; before 15, reading one could run its code.

# dcign-view saves MP4 with it; everything else it does without.
_VIDEO = ["av>=14"]
# What TensorFlow Serving's requests are made of, for the client's gRPC; its REST needs nothing more.
_SERVING = ["grpcio>=1.60", "tensorflow-serving-api>=2.21,<2.22"]
# Finds faces in photographs, with the model that it ships.
_PHOTOS = ["scikit-image>=0.24"]

_DEVELOPMENT = [
    "pytest>=8",
    "pytest-cov>=7",
    "pytest-xdist>=3.6",
    "coverage>=7.10",
    "hypothesis>=6.100",
    # A formatter's next release formats differently: pinned to one series.
    "ruff>=0.17,<0.18",
    "mypy>=2,<3",
    # Drives the Chromium that the tests of pages run in.
    "playwright>=1.50",
    # The independent renderer that the tests compare ours with.
    "embreex>=2.17",
    # What runs the notebook.
    "nbclient>=0.10",
    "nbformat>=5.10",
    "ipykernel>=6.29",
    # The schemas and the parser of the examples of deployments.
    "kubernetes-validate>=1.29",
    "pyyaml>=6",
    *_TABLES,
    *_VIDEO,
    *_SERVING,
    *_PHOTOS,
]

# What dcign-benchmark compares with, where it is there.
_BENCHMARK = ["torch>=2.8", "pyvista>=0.45", "vtk>=9.4", "embreex>=2.17"]

_README = pathlib.Path(__file__).parent / "README.md"

setuptools.setup(
    name="dcign_tf",
    version="0.1.0",
    description="Deep Convolutional Inverse Graphics Networks: learn to turn, raise and re-light what an image shows",
    long_description=_README.read_text(encoding="utf-8") if _README.exists() else "",
    long_description_content_type="text/markdown",
    author="The dcign_tf authors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=[
        *setuptools.find_packages(include=["dcign_tf", "dcign_tf.*"]),
        # What stands in saved_models ships inside of the package: `dcign_tf.serving.shipped` finds it there.
        "dcign_tf.shipped_models",
    ],
    package_dir={"dcign_tf.shipped_models": "saved_models"},
    package_data={
        "dcign_tf": ["py.typed"],
        "dcign_tf.serving.viewer": ["page/*", "samples/*.png"],
        "dcign_tf.shipped_models": ["faces/**", "chairs/**"],
    },
    python_requires=">=3.11",
    install_requires=[
        # One minor version of each: the `.keras` format and bit-for-bit repeatable training are tested with these.
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",
        "tensorflow-probability>=0.25,<0.26",
        "tf-keras>=2.21,<2.22",  # What tensorflow-probability needs beside Keras 3.
        "tensorboard>=2.20",
        "grpcio>=1.60",  # TensorFlow's and TensorBoard's, too.
        "werkzeug>=3",  # dcign-view's server; it comes with TensorBoard anyway.
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.5",
        "numba>=0.61",
        "h5py>=3.12",
        "pillow>=10.3",
        "matplotlib>=3.8",
        "absl-py>=2.1",
        "tqdm>=4.66",
        "urllib3>=2.2",
    ],
    extras_require={
        "dev": _DEVELOPMENT,
        "benchmark": _BENCHMARK,
        "serving": _SERVING,
        "tables": _TABLES,
        "photos": _PHOTOS,
        "video": _VIDEO,
    },
    entry_points={
        "console_scripts": [f"dcign-{name} = dcign_tf.cli.{name}:main_entry" for name in _COMMANDS]
    },
)
