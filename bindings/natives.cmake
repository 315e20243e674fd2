# Lays the library and a binding's wrapper side by side, as they go into a package, with their checksums: cmake -DLIBRARY=...
# -DWRAPPER=... -DFOLDER=... -P natives.cmake. The wrapper finds the library beside itself; the library needs no path of the
# build.
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})
file(COPY_FILE ${LIBRARY} ${FOLDER}/${SONAME})
if(NOT SONAME MATCHES "[.]dll$")
  file(RPATH_REMOVE FILE ${FOLDER}/${SONAME})
endif()
file(COPY ${WRAPPER} DESTINATION ${FOLDER})
file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*)
set(sums "")
foreach(file ${files})
  file(SHA256 ${FOLDER}/${file} sum)
  string(APPEND sums "${sum}  ${file}\n")
endforeach()
file(WRITE ${FOLDER}/SHA256SUMS "${sums}")
