# A portable build: what the library stands on is linked in, and what it needs of the system is the C library, of glibc 2.34 or
# newer. samples/dependencies.sh builds the static libraries, once, and says where they are.
set(INFINI_DEPENDENCIES "" CACHE PATH "The folder of the static libraries of a portable build; empty: samples/dependencies.sh builds them")
set(prefix "${INFINI_DEPENDENCIES}")
if(NOT prefix)
  message(STATUS "Static libraries: samples/dependencies.sh (the first time takes minutes)")
  execute_process(COMMAND bash ${PROJECT_SOURCE_DIR}/samples/dependencies.sh
    OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
if(NOT prefix STREQUAL "${INFINI_PREFIX_BEFORE}")
  # What was found elsewhere is looked for again.
  get_cmake_property(found CACHE_VARIABLES)
  list(FILTER found INCLUDE REGEX "^(dnnl_DIR|(__pkg_config_checked|pkgcfg_lib)_INFINI_MODULES.*)$")
  foreach(name ${found})
    unset(${name} CACHE)
  endforeach()
  set(INFINI_PREFIX_BEFORE "${prefix}" CACHE INTERNAL "Where the static libraries were found")
endif()
list(PREPEND CMAKE_PREFIX_PATH "${prefix}")
set(INFINI_LICENSES "")  # of what is linked in: packages hold them
if(EXISTS "${prefix}/licenses")
  set(INFINI_LICENSES "${prefix}/licenses")
endif()

set_source_files_properties(lib/base/platform_glibc.cc PROPERTIES COMPILE_DEFINITIONS INFINI_PORTABLE=1)
add_compile_options(-ffunction-sections -fdata-sections)

# A library or program of ours that carries the compiler's runtime too, and no symbol but its own.
function(infini_link_portably target)
  target_link_options(${target} PRIVATE
    -static-libstdc++ -static-libgcc -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,--as-needed -Wl,--strip-all)
endfunction()
