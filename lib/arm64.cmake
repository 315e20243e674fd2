# For linux-arm64, on another machine: Debian's cross compiler, and its libraries for arm64, which samples/dependencies.sh unpacks
# (CMAKE_SYSROOT names other ones); or, for a portable build, static libraries that it builds (INFINI_DEPENDENCIES names other ones).
# Where qemu-user is, ctest runs what was built.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES INFINI_PORTABLE INFINI_DEPENDENCIES)
function(infini_built variable what words)
  if(NOT ${variable})
    execute_process(COMMAND bash ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../samples/dependencies.sh ${what}
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    set(${variable} "${folder}" CACHE PATH "${words}" FORCE)
  endif()
endfunction()
if(INFINI_PORTABLE)
  infini_built(INFINI_DEPENDENCIES portable-arm64 "Where the static libraries for arm64 are")
  set(run_from /usr/aarch64-linux-gnu)  # the cross compiler's C library
  set(CMAKE_FIND_ROOT_PATH "${INFINI_DEPENDENCIES}" ${run_from})
  set(ENV{PKG_CONFIG_LIBDIR} "${INFINI_DEPENDENCIES}/lib/pkgconfig")
else()
  infini_built(CMAKE_SYSROOT arm64 "Where Debian's libraries for arm64 are")
  set(run_from "${CMAKE_SYSROOT}")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_SYSROOT}")
  set(ENV{PKG_CONFIG_LIBDIR} "${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(what LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${what} ONLY)
endforeach()

find_program(QEMU_AARCH64 qemu-aarch64)
if(QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${QEMU_AARCH64};-L;${run_from}")
endif()
