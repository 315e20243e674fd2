#!/usr/bin/env python3
"""The vcpkg port and the Conan recipe, as far as they go without those two, which Debian does not have: a stand-in does what each of
their functions says, with the system's libraries; the library is built and installed, and a program finds it by CMake.

usage: ports.py SOURCE VERSION
"""
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types

source, version = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
work = pathlib.Path(tempfile.mkdtemp())


def run(*command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode or "Manually-specified variables were not used" in done.stdout:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def build(folder, options, prefix, checkout=source):
    run("cmake", "-S", checkout, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_INSTALL_PREFIX={prefix}", *options)
    run("cmake", "--build", folder, "--parallel", os.cpu_count())


def is_found(prefix):
    """A project with a program of the library's, built over what was installed."""
    project = prefix.parent / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(p C CXX)\nfind_package(infini REQUIRED)\n"
                                            "add_executable(p main.c)\ntarget_link_libraries(p infini::infini)\n")
    (project / "main.c").write_text('#include <infini/infini.h>\n#include <stdio.h>\nint main(void) { return puts(infini_version()) < 0; }\n')
    run("cmake", "-S", project, "-B", project / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", project / "build")
    said = subprocess.run([project / "build/p"], capture_output=True, text=True, check=True).stdout.strip()
    assert said == version, said


def vcpkg():
    port = source / "lib/packaging/vcpkg/infini"
    manifest = json.loads((port / "vcpkg.json").read_text())
    assert manifest["version-semver"] == version and manifest["name"] == port.name, manifest
    packages = work / "vcpkg/packages"
    stand_in = work / "vcpkg.cmake"
    stand_in.write_text(f"""
      set(CURRENT_PACKAGES_DIR "{packages}")
      set(asked "")
      function(vcpkg_check_features)
        cmake_parse_arguments(arg "" "OUT_FEATURE_OPTIONS" "FEATURES" ${{ARGN}})
        list(GET arg_FEATURES 0 name)
        list(GET arg_FEATURES 1 option)
        file(APPEND "{work}/features" "${{name}}")
        set(${{arg_OUT_FEATURE_OPTIONS}} -D${{option}}=OFF PARENT_SCOPE)
      endfunction()
      function(vcpkg_find_acquire_program name)
        find_program(${{name}} pkg-config)
        set(${{name}} "${{${{name}}}}" PARENT_SCOPE)
      endfunction()
      function(vcpkg_cmake_configure)
        cmake_parse_arguments(arg "" "SOURCE_PATH" "OPTIONS" ${{ARGN}})
        string(REPLACE ";" "\\n" options "${{arg_OPTIONS}}")
        file(WRITE "{work}/source" "${{arg_SOURCE_PATH}}")
        file(WRITE "{work}/options" "${{options}}")
      endfunction()
      function(vcpkg_cmake_install)
      endfunction()
      function(vcpkg_cmake_config_fixup)
        cmake_parse_arguments(arg "" "PACKAGE_NAME;CONFIG_PATH" "" ${{ARGN}})
        file(WRITE "{work}/config" "${{arg_CONFIG_PATH}}/${{arg_PACKAGE_NAME}}-config.cmake")
      endfunction()
      function(vcpkg_fixup_pkgconfig)
      endfunction()
      function(vcpkg_install_copyright)
        cmake_parse_arguments(arg "" "" "FILE_LIST" ${{ARGN}})
        file(WRITE "{work}/licence" "${{arg_FILE_LIST}}")
      endfunction()
      include("{port}/portfile.cmake")
    """)
    run("cmake", "-P", stand_in)
    said = {name: (work / name).read_text() for name in ("features", "source", "options", "config", "licence")}
    assert said["features"] in manifest["features"] and pathlib.Path(said["source"]) == source, said
    assert pathlib.Path(said["licence"]).is_file(), said
    build(work / "vcpkg/build", [*said["options"].split("\n"), "-DCMAKE_INSTALL_LIBDIR=lib"], packages)
    run("cmake", "--install", work / "vcpkg/build")
    assert (packages / said["config"]).is_file(), said
    is_found(packages)


def conan():
    class ConanFile:
        pass

    class CMake:
        def __init__(self, recipe):
            self.recipe = recipe

        def configure(self):
            self.recipe.options_given = [f"-D{name}={value}" for name, value in self.recipe.variables.items()]

        def build(self):
            build(work / "conan/build", self.recipe.options_given, work / "conan/package", self.recipe.source_folder)

        def install(self):
            run("cmake", "--install", work / "conan/build")

    class CMakeToolchain:
        def __init__(self, recipe):
            self.recipe, self.cache_variables = recipe, {}

        def generate(self):
            self.recipe.variables = {name: {True: "ON", False: "OFF"}.get(value, value) for name, value in self.cache_variables.items()}

    class Nothing:
        def __init__(self, recipe):
            pass

        def generate(self):
            pass

    def copy(recipe, pattern, begin, end):
        found = [path for path in pathlib.Path(begin).resolve().glob(pattern)]
        assert found, pattern
        for path in found:
            to = pathlib.Path(end) / path.relative_to(pathlib.Path(begin).resolve())
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, to) if path.is_dir() else shutil.copy(path, to)

    names = {"conan": {"ConanFile": ConanFile}, "conan.tools": {}, "conan.tools.files": {"copy": copy}, "conan.tools.gnu": {"PkgConfigDeps": Nothing},
             "conan.tools.cmake": {"CMake": CMake, "CMakeDeps": Nothing, "CMakeToolchain": CMakeToolchain, "cmake_layout": lambda recipe: None}}
    for name, members in names.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    path = source / "lib/packaging/conan/conanfile.py"
    spec = importlib.util.spec_from_file_location("conanfile", path)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    recipe = module.Infini()
    assert (recipe.name, recipe.version) == ("infini", version), recipe.version
    recipe.recipe_folder, recipe.export_sources_folder = path.parent, work / "conan/source"
    recipe.source_folder, recipe.package_folder = work / "conan/source", work / "conan/package"
    recipe.options = types.SimpleNamespace(**recipe.default_options)
    required, tools = [], []
    recipe.requires, recipe.tool_requires = required.append, tools.append
    recipe.cpp_info = types.SimpleNamespace(set_property=lambda name, value: None)
    for step in (recipe.export_sources, recipe.layout, recipe.requirements, recipe.build_requirements, recipe.generate, recipe.build, recipe.package,
                 recipe.package_info):
        step()
    assert all(re.fullmatch(r"[a-z0-9_]+/\[>=[\d.]+ <\d+\]", one) for one in required + tools), required + tools
    assert (work / "conan/package/licenses/LICENSE").is_file() and recipe.cpp_info.libs == ["infini"]
    is_found(work / "conan/package")


try:
    vcpkg()
    conan()
finally:
    shutil.rmtree(work)
