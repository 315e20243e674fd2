# Makes the Go module that holds the library: all objects of a portable build, and what they stand on, in one archive whose only
# global symbols are infini_*. cmake -DSOURCE=FOLDER -DHEADERS=LIST -DOBJECTS=FILE -DLIBRARIES=LIST -DCXX=... -DOBJCOPY=... -DAR=...
# -DLICENSES=LIST -DFOLDER=... -P package.cmake
file(REMOVE_RECURSE ${FOLDER})
file(COPY ${SOURCE}/ DESTINATION ${FOLDER} PATTERN generate.sh EXCLUDE PATTERN package.cmake EXCLUDE)
file(COPY ${LICENSES} DESTINATION ${FOLDER})
set(native ${FOLDER}/internal/native)
file(COPY ${HEADERS} DESTINATION ${native}/include/infini)
file(MAKE_DIRECTORY ${native}/linux_amd64)
file(WRITE ${native}/link.go [[
package native

// #cgo CFLAGS: -I${SRCDIR}/include
// #cgo linux,amd64 LDFLAGS: ${SRCDIR}/linux_amd64/libinfini.a -lm -lpthread
import "C"
]])

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
foreach(name libstdc++.a libgcc_eh.a)
  execute_process(COMMAND ${CXX} -print-file-name=${name} OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND LIBRARIES ${file})
endforeach()
set(whole ${native}/linux_amd64/infini.o)
# Functions that several objects hold are chosen now, or those of another C++ library in the same program would be.
run(${CXX} -r -nostdlib -Wl,--force-group-allocation -o ${whole} @${OBJECTS} -Wl,--start-group ${LIBRARIES} -Wl,--end-group)
run(${OBJCOPY} --wildcard --keep-global-symbol=infini_* --strip-unneeded ${whole})
run(${AR} rcs ${native}/linux_amd64/libinfini.a ${whole})
file(REMOVE ${whole})
