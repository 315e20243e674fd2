/* Java: a handle is a long; arrays are Java's; a scalar out-parameter is an array of one; an error is thrown by the
   native side itself, so that its message is read on the thread, and in the call, that failed. */

%define %java_as(TYPES, JNI, JAVA)
%typemap(jni)     TYPES JNI
%typemap(jtype)   TYPES JAVA
%typemap(jstype)  TYPES JAVA
%typemap(javain)  TYPES "$javainput"
%typemap(javaout) TYPES { return $jnicall; }
%enddef

/* Handles. */
%define %java_handle(NAME)
%java_as(infini_##NAME *, "jlong", "long")
%java_as(const infini_##NAME *, "jlong", "long")
%typemap(in) infini_##NAME *, const infini_##NAME * { $1 = ($1_ltype)(intptr_t)$input; }
%java_out(infini_##NAME **, "jlongArray", "long[]", Long)
%enddef

/* PATTERN is an array and its length; MODE is JNI_ABORT where C only reads it, 0 where C writes. */
%define %java_array(PATTERN, JNI, JAVA, NAME, MODE)
%java_as(PATTERN, JNI, JAVA)
%typemap(in) PATTERN {
  $1 = NULL;
  $2 = 0;
  if ($input) {
    $1 = ($1_ltype)JCALL2(Get##NAME##ArrayElements, jenv, $input, NULL);
    if (!$1) return $null;
    $2 = (size_t)JCALL1(GetArrayLength, jenv, $input);
  }
}
%typemap(freearg) PATTERN { if ($1) JCALL3(Release##NAME##ArrayElements, jenv, $input, (void *)$1, MODE); }
%enddef

/* An out-parameter: an array of one, or null where it is not wanted. */
%define %java_out(TYPE, JNI, JAVA, NAME)
%java_as(TYPE, JNI, JAVA)
%typemap(in) TYPE {
  $1 = NULL;
  if ($input) {
    $1 = ($1_ltype)JCALL2(Get##NAME##ArrayElements, jenv, $input, NULL);
    if (!$1) return $null;
  }
}
%typemap(freearg) TYPE { if ($1) JCALL3(Release##NAME##ArrayElements, jenv, $input, (void *)$1, 0); }
%enddef

%java_handle(model)
%java_handle(session)
%java_handle(options)
%java_handle(task)
%java_handle(text_stream)
%java_handle(batch)
%java_handle(trainer)
%java_handle(adaptation)

%apply long long { size_t };
%java_array((const int32_t *tokens, size_t n_tokens), "jintArray", "int[]", Int, JNI_ABORT)
%java_array((const char *text, size_t text_size), "jbyteArray", "byte[]", Byte, JNI_ABORT)
%java_array((const void *data, size_t data_size), "jbyteArray", "byte[]", Byte, JNI_ABORT)
%java_array((void *buffer, size_t capacity), "jbyteArray", "byte[]", Byte, 0)
%java_array((char *buffer, size_t capacity), "jbyteArray", "byte[]", Byte, 0)
%java_array((int32_t *buffer, size_t capacity), "jintArray", "int[]", Int, 0)
%java_array((float *buffer, size_t capacity), "jfloatArray", "float[]", Float, 0)
%java_out(size_t *, "jlongArray", "long[]", Long)
%java_out(int64_t *, "jlongArray", "long[]", Long)
%java_out(double *, "jdoubleArray", "double[]", Double)
%java_out(int32_t *, "jintArray", "int[]", Int)
%java_out(int *, "jintArray", "int[]", Int)

/* Strings cross as bytes in real UTF-8: JNI's own is another encoding. */
%typemap(jni)     const char * "jbyteArray"
%typemap(jtype)   const char * "byte[]"
%typemap(jstype)  const char * "String"
%typemap(javain)  const char * "Utf8.zeroEnded($javainput)"
%typemap(javaout) const char * { return Utf8.decode($jnicall); }
%typemap(in) const char * {
  $1 = NULL;
  if ($input && !($1 = ($1_ltype)JCALL2(GetByteArrayElements, jenv, $input, NULL))) return $null;
}
%typemap(freearg) const char * { if ($1) JCALL3(ReleaseByteArrayElements, jenv, $input, (void *)$1, JNI_ABORT); }
%typemap(out) const char * { $result = bytes_of(jenv, $1); }

/* END comes back as a number; every other status but OK is thrown. */
%java_as(infini_status, "jint", "int")
%typemap(out) infini_status {
  if ($1 != INFINI_OK && $1 != INFINI_END) throw_status(jenv, $1);
  $result = (jint)$1;
}

%{
static jbyteArray bytes_of(JNIEnv *env, const char *text) {
  jsize size = (jsize)strlen(text);
  jbyteArray bytes = (*env)->NewByteArray(env, size);
  if (bytes) (*env)->SetByteArrayRegion(env, bytes, 0, size, (const jbyte *)text);
  return bytes;
}

/* Throws InfiniException.of(status, errno, message). Should something of that fail, what Java threw instead stays thrown. */
static void throw_status(JNIEnv *env, infini_status status) {
  jclass type = (*env)->FindClass(env, "infini/InfiniException");
  jmethodID make = type ? (*env)->GetStaticMethodID(env, type, "of", "(II[B)Linfini/InfiniException;") : NULL;
  jbyteArray message = make ? bytes_of(env, infini_last_error()) : NULL;
  jobject error = message ? (*env)->CallStaticObjectMethod(env, type, make, (jint)status, (jint)infini_last_os_error(), message) : NULL;
  if (!(*env)->ExceptionCheck(env) && error) (*env)->Throw(env, (jthrowable)error);
}

static JavaVM *machine;
static jclass task_class;
static jmethodID task_interrupted;

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved) {
  JNIEnv *env;
  jclass task;
  (void)reserved;
  machine = vm;
  if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return JNI_ERR;
  task = (*env)->FindClass(env, "infini/Task");
  if (task) task_interrupted = (*env)->GetStaticMethodID(env, task, "interrupted", "()Z");
  if (task_interrupted) task_class = (jclass)(*env)->NewGlobalRef(env, task);
  return task_class ? JNI_VERSION_1_8 : JNI_ERR;
}

JNIEXPORT void JNICALL JNI_OnUnload(JavaVM *vm, void *reserved) {
  JNIEnv *env;
  (void)reserved;
  if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_8) == JNI_OK) (*env)->DeleteGlobalRef(env, task_class);
}

/* Hears of progress on the thread of a call: where that was interrupted, the call is cancelled. What is being saved is not. */
static int stops_if_interrupted(void *user_data, const char *stage, int64_t done, int64_t total) {
  JNIEnv *env;
  jboolean interrupted;
  (void)user_data, (void)done, (void)total;
  if (strcmp(stage, "save") == 0 || (*machine)->GetEnv(machine, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return 0;
  interrupted = (*env)->CallStaticBooleanMethod(env, task_class, task_interrupted);
  return (*env)->ExceptionCheck(env) || interrupted;
}
%}

%inline %{
static infini_status infini_task_hear_interruptions(infini_task *task) {
  return infini_task_set_progress(task, stops_if_interrupted, NULL);
}
%}

%typemap(javafinalize) SWIGTYPE ""
%pragma(java) jniclassclassmodifiers="final class"
%pragma(java) moduleclassmodifiers="final class"
%pragma(java) jniclasscode=%{
  static {
    NativeLoader.load();
    NativeLoader.check(infini_package_abi_version(), infini_abi_version());
  }
%}
