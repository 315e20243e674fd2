# Installs the library with its header, its CMake package and infini.pc, and says in INFINI_RPATH where an installed
# program finds it.
#
# A tree whose folders are relative to the prefix (GNUInstallDirs' defaults) may be moved: all in it points relative to
# itself. An absolute CMAKE_INSTALL_LIBDIR says where the library is for good, and so does all that points from there.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
  set(INFINI_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
  set(INFINI_RPATH "${CMAKE_INSTALL_LIBDIR}")
else()
  set(includedir "${CMAKE_INSTALL_INCLUDEDIR}")
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /)
  string(REGEX REPLACE "/$" "" up "${up}")
  set(INFINI_PC_PREFIX "\${pcfiledir}/${up}")
  if(IS_ABSOLUTE "${CMAKE_INSTALL_BINDIR}")
    set(INFINI_RPATH "${CMAKE_INSTALL_FULL_LIBDIR}")
  else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
    set(INFINI_RPATH "$ORIGIN/${up}")
  endif()
endif()
set(package "${CMAKE_INSTALL_LIBDIR}/cmake/infini")

target_include_directories(infini PUBLIC $<INSTALL_INTERFACE:${includedir}>)
install(TARGETS infini EXPORT infini
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library NAMELINK_COMPONENT development
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT library
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
  PUBLIC_HEADER DESTINATION "${includedir}/infini" COMPONENT development)
install(EXPORT infini NAMESPACE infini:: FILE infini-targets.cmake DESTINATION "${package}" COMPONENT development)

# Whoever links a static library links what it stands on.
set(config "include(\"\${CMAKE_CURRENT_LIST_DIR}/infini-targets.cmake\")\n")
set(INFINI_PC_REQUIRES "")
set(INFINI_PC_LIBS "")
if(INFINI_KIND STREQUAL "STATIC")
  get_target_property(dependencies infini_dependencies INTERFACE_LINK_LIBRARIES)
  foreach(library ${dependencies})
    target_link_libraries(infini INTERFACE $<INSTALL_INTERFACE:$<LINK_ONLY:${library}>>)
  endforeach()
  list(JOIN INFINI_MODULES " " modules)
  set(openmp "")
  if(INFINI_OPENMP)
    set(openmp "find_dependency(OpenMP COMPONENTS CXX)\n")
  endif()
  string(CONFIGURE [[
get_property(infini_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT CXX IN_LIST infini_languages)
  set(infini_FOUND FALSE)
  set(infini_NOT_FOUND_MESSAGE "a static libinfini.a is C++ inside: project(... LANGUAGES C CXX)")
  return()
endif()
include(CMakeFindDependencyMacro)
find_dependency(dnnl CONFIG)
@openmp@find_dependency(PkgConfig)
pkg_check_modules(INFINI_MODULES QUIET IMPORTED_TARGET @modules@)
if(NOT INFINI_MODULES_FOUND)
  set(infini_FOUND FALSE)
  set(infini_NOT_FOUND_MESSAGE "one of @modules@ is missing")
  return()
endif()
@config@]] config @ONLY)

  string(JOIN ", " INFINI_PC_REQUIRES ${INFINI_MODULES})
  get_target_property(dnnl DNNL::dnnl LOCATION)
  cmake_path(GET dnnl PARENT_PATH dnnl)
  set(runtime ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
  list(FILTER runtime INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|m)$")
  list(TRANSFORM runtime PREPEND -l)
  list(TRANSFORM OpenMP_CXX_LIB_NAMES PREPEND -l OUTPUT_VARIABLE openmp)
  list(JOIN openmp " " openmp)
  list(JOIN runtime " " runtime)
  string(REPLACE " " "\\ " dnnl "${dnnl}")
  set(INFINI_PC_LIBS "-L${dnnl} -ldnnl ${openmp} ${runtime}")
endif()

file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/infini-config.cmake" "${config}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/infini-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/infini-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/infini-config-version.cmake"
  DESTINATION "${package}" COMPONENT development)

cmake_path(APPEND INFINI_PC_LIBDIR "\${prefix}" "${CMAKE_INSTALL_LIBDIR}")
cmake_path(APPEND INFINI_PC_INCLUDEDIR "\${prefix}" "${includedir}")
foreach(value PREFIX LIBDIR INCLUDEDIR)
  string(REPLACE " " "\\ " INFINI_PC_${value} "${INFINI_PC_${value}}")  # as pkg-config itself writes pcfiledir
endforeach()
configure_file(infini.pc.in infini.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/infini.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
