# For Windows, on another machine: Debian's mingw-w64, with static libraries that samples/dependencies.sh builds once.
# Where Wine is, ctest runs what was built. INFINI_DEPENDENCIES names other libraries.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

if(NOT INFINI_DEPENDENCIES)
  execute_process(COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/../samples/dependencies.sh windows
    OUTPUT_VARIABLE INFINI_DEPENDENCIES OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(INFINI_DEPENDENCIES "${INFINI_DEPENDENCIES}" CACHE PATH "Where the static libraries for Windows are")
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES INFINI_DEPENDENCIES)
set(CMAKE_FIND_ROOT_PATH "${INFINI_DEPENDENCIES}" /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(what LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${what} ONLY)
endforeach()
set(ENV{PKG_CONFIG_LIBDIR} "${INFINI_DEPENDENCIES}/lib/pkgconfig")

# GCC keeps vectors of 32 and 64 bytes on a stack that Windows aligns to 16 (GCC bug 54412): the assembler makes moves of them that
# need no alignment. The C library's printf of C99, and files above 2 GiB.
set(flags "-Wa,-muse-unaligned-vector-move -D__USE_MINGW_ANSI_STDIO=1 -D_FILE_OFFSET_BITS=64 -DPCRE2_STATIC -DUTF8PROC_STATIC")
set(CMAKE_C_FLAGS_INIT "${flags}")
set(CMAKE_CXX_FLAGS_INIT "${flags}")
# Nothing of the compiler's is a library beside ours.
set(linking "-static -static-libgcc -static-libstdc++")
set(CMAKE_EXE_LINKER_FLAGS_INIT "${linking}")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "${linking} -Wl,--exclude-all-symbols")

find_program(WINE NAMES wine64 wine PATHS /usr/lib/wine)
if(WINE)  # in a folder of the build, not in the user's
  set(CMAKE_CROSSCOMPILING_EMULATOR env LC_ALL=C.UTF-8 WINEPREFIX=${CMAKE_BINARY_DIR}/wine WINEDEBUG=-all
    WINEDLLOVERRIDES=mscoree,mshtml= "${WINE}")
endif()
