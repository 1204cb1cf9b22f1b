"""llama.cpp for compare_peers, in private environments: llama-cpp-python from the Python registry, and llama-server
from the source in that package. Both are compiled for this processor, or for a lower instruction set of it."""
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hearth"
NAME = "llama-cpp-python"
PACKAGE = NAME + "==0.3.36"
AVX2 = ["-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for name in ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2"))]
AVX512 = [f"-DGGML_{name}=ON" for name in ("AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16")]
ARM = ["-DGGML_NATIVE=OFF", "-DGGML_CPU_ARM_ARCH=armv8.2-a+fp16+dotprod"]
# hearth's instruction set → how llama.cpp is compiled for a machine that has this one and none above it.
CMAKE_ARGS = {None: [], "avx2": AVX2, "avx512vnni": AVX2 + AVX512, "neon": ARM,
              "i8mm": [*ARM[:-1], ARM[-1] + "+i8mm"]}


def home(isa):
    if isa not in CMAKE_ARGS:
        sys.exit(f"compare_peers: no build of llama.cpp stands for --isa {isa}; name one with --peer-python "
                 "or --peer-server")
    return CACHE / ("peer-venv" if isa is None else f"peer-venv-{isa}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def pip(python):
    return [python, "-m", "pip", "--quiet"]


def bare_python(isa):
    python = home(isa) / "bin" / "python"
    if not python.exists():
        venv.create(home(isa), with_pip=True)
    return python


def python(isa):
    """The Python that has llama-cpp-python, installed where that is still to do."""
    python = bare_python(isa)
    if subprocess.run([python, "-c", "import llama_cpp, numpy"], capture_output=True).returncode != 0:
        say(f"installing {PACKAGE}: it is compiled, which takes many minutes …")
        subprocess.run([*pip(python), "install", "--no-cache-dir", "--no-binary", NAME, PACKAGE, "numpy"], check=True,
                       env=dict(os.environ, CMAKE_ARGS=" ".join(CMAKE_ARGS[isa])))
    return python


def server(isa):
    """llama-server, compiled where that is still to do: the package brings its source, not the program."""
    folder = home(isa) / "server"
    program = folder / "bin" / "llama-server"
    if program.exists():
        return program
    python = bare_python(isa)
    say("compiling llama-server: this takes many minutes …")
    subprocess.run([*pip(python), "install", "cmake", "ninja"], check=True)
    subprocess.run([*pip(python), "download", "--no-deps", "--no-binary", NAME, "-d", folder, PACKAGE], check=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    [source] = folder.glob("llama_cpp_python-*/vendor/llama.cpp")
    search = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    unused = "CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_UI", "USE_PREBUILT_UI"
    off = [f"-DLLAMA_{name}=OFF" for name in unused]
    for command in (["cmake", "-S", source, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                     "-DBUILD_SHARED_LIBS=OFF", *off, *CMAKE_ARGS[isa]],
                    ["cmake", "--build", folder, "--target", "llama-server"]):
        subprocess.run(command, check=True, stdout=sys.stderr, env=search)
    return program
