# Makes the archive that a Go module holds: all objects of a portable build, and what they stand on, as one whose only global symbols
# are infini_*. cmake -DOBJECTS=FILE -DLIBRARIES=LIST -DCXX=... -DOBJCOPY=... -DAR=... -DARCHIVE=FILE -P archive.cmake
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
foreach(name libstdc++.a libgcc_eh.a)
  execute_process(COMMAND ${CXX} -print-file-name=${name} OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND LIBRARIES ${file})
endforeach()
cmake_path(GET ARCHIVE PARENT_PATH folder)
file(MAKE_DIRECTORY ${folder})
file(REMOVE ${ARCHIVE})
set(whole ${folder}/infini.o)
# Functions that several objects hold are chosen now, or those of another C++ library in the same program would be.
run(${CXX} -r -nostdlib -Wl,--force-group-allocation -o ${whole} @${OBJECTS} -Wl,--start-group ${LIBRARIES} -Wl,--end-group)
run(${OBJCOPY} --wildcard --keep-global-symbol=infini_* --strip-unneeded ${whole})
run(${AR} rcs ${ARCHIVE} ${whole})
file(REMOVE ${whole})
