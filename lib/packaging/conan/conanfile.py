"""A recipe of Conan 2 for the checkout that it lies in: conan create lib/packaging/conan --build=missing"""
import os

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy
from conan.tools.gnu import PkgConfigDeps


class Infini(ConanFile):
    name = "infini"
    version = "0.1.0"
    description = "Infini-attention language models behind a stable C interface"
    license = "Apache-2.0"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "onednn": [True, False]}
    default_options = {"shared": True, "onednn": False}

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..", "..")
        for pattern in ("CMakeLists.txt", "infini.pc.in", "LICENSE", "README.md", "lib/*", "capi/*"):
            copy(self, pattern, root, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        for package in ("highway/[>=1.0.3 <2]", "nlohmann_json/[>=3.11 <4]", "pcre2/[>=10.42 <11]", "utf8proc/[>=2.8 <3]",
                        "xxhash/[>=0.8 <1]", "zstd/[>=1.5 <2]"):
            self.requires(package)
        if self.options.onednn:
            self.requires("onednn/[>=2.6 <4]")

    def build_requirements(self):
        self.tool_requires("pkgconf/[>=2 <3]")

    def generate(self):
        CMakeDeps(self).generate()
        PkgConfigDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables.update(INFINI_ONEDNN=bool(self.options.onednn), INFINI_OPENBLAS=False, INFINI_MPI="OFF",
                                         INFINI_TESTS=False, INFINI_SAMPLES=False, INFINI_INSTALL=True)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_info(self):
        self.cpp_info.libs = ["infini"]
        self.cpp_info.set_property("cmake_file_name", "infini")
        self.cpp_info.set_property("cmake_target_name", "infini::infini")
        self.cpp_info.set_property("pkg_config_name", "infini")
