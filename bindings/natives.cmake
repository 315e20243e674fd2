# Lays the library and a binding's wrapper side by side, as they go into a package: cmake -DLIBRARY=... -DWRAPPER=...
# -DFOLDER=... -P natives.cmake. The wrapper finds the library beside itself; the library needs no path of the build.
file(MAKE_DIRECTORY ${FOLDER})
file(COPY_FILE ${LIBRARY} ${FOLDER}/${SONAME})
file(RPATH_REMOVE FILE ${FOLDER}/${SONAME})
file(COPY ${WRAPPER} DESTINATION ${FOLDER})
