# Compiles the Java sources and makes the three jars: cmake -DJAVA_BIN=... -DSOURCES=... -DFOLDER=... -DJAR=PATH-PREFIX
# -DVERSION=... -DLICENSE=FILE [-DLICENSES=FOLDER] -P package.cmake
set(classes ${FOLDER}/classes)
set(sources ${FOLDER}/sources)
set(docs ${FOLDER}/javadoc)
file(REMOVE_RECURSE ${classes} ${sources} ${docs})
file(COPY ${SOURCES}/ DESTINATION ${sources})
file(GLOB public ${sources}/*.java ${sources}/infini/*.java)
file(COPY ${FOLDER}/generated/ DESTINATION ${sources}/infini)
file(GLOB all ${sources}/*.java ${sources}/infini/*.java)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${JAVA_BIN}/javac --release 17 -Xlint:all -Werror --module-version ${VERSION} -d ${classes} ${all})
run(${JAVA_BIN}/javadoc -quiet -Xdoclint:all -Werror -notimestamp -d ${docs} ${all})
file(COPY ${LICENSE} ${LICENSES} DESTINATION ${classes}/META-INF)
file(COPY ${FOLDER}/natives/ DESTINATION ${classes}/native/linux-x86_64)
run(${JAVA_BIN}/jar --create --file ${JAR}.jar -C ${classes} .)
run(${JAVA_BIN}/jar --create --file ${JAR}-sources.jar -C ${sources} .)
run(${JAVA_BIN}/jar --create --file ${JAR}-javadoc.jar -C ${docs} .)
