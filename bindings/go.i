/* Go: a handle is a number; slices, strings and pointers to scalars are Go's; a status comes back as an error whose
   message was copied inside the very call that failed, because it is kept for each thread and a goroutine may change
   threads between two calls. */

%define %go_handle(NAME)
%typemap(gotype) infini_##NAME *, const infini_##NAME * "uintptr"
%typemap(gotype) infini_##NAME ** "*uintptr"
%enddef
%go_handle(model)
%go_handle(session)
%go_handle(options)
%go_handle(task)
%go_handle(text_stream)
%go_handle(batch)
%go_handle(trainer)
%go_handle(adaptation)

%define %go_array(PATTERN, GO)
%typemap(gotype) PATTERN GO
%typemap(in) PATTERN {
  $1 = ($1_ltype)$input.array;
  $2 = (size_t)$input.len;
}
%enddef
%go_array((const int32_t *tokens, size_t n_tokens), "[]int32")
%go_array((const char *text, size_t text_size), "[]byte")
%go_array((const void *data, size_t data_size), "[]byte")
%go_array((void *buffer, size_t capacity), "[]byte")
%go_array((char *buffer, size_t capacity), "[]byte")
%go_array((int32_t *buffer, size_t capacity), "[]int32")
%go_array((float *buffer, size_t capacity), "[]float32")

%typemap(gotype) size_t "uint64"
%typemap(gotype) size_t * "*uint64"
%typemap(gotype) int64_t * "*int64"
%typemap(gotype) double * "*float64"
%typemap(gotype) int32_t * "*int32"
%typemap(gotype) int * "*int32"

/* C hands over "status errno message", which errorOf (internal/native/error.go) takes apart. */
%typemap(gotype) infini_status "error"
%typemap(imtype) infini_status "string"
%typemap(out) infini_status {
  $result.p = NULL;
  $result.n = 0;
  if ($1 != INFINI_OK) {
    const char *message = $1 == INFINI_END ? "" : infini_last_error();
    size_t room = strlen(message) + 32;
    $result.p = (char *)malloc(room); /* swigCopyString frees it */
    if (!$result.p) abort();          /* what Go itself does where memory ends */
    $result.n = snprintf($result.p, room, "%d %d %s", (int)$1, infini_last_os_error(), message);
  }
}
%typemap(goout, fragment="CopyString") infini_status %{
	if len($1) != 0 {
		$result = errorOf(swigCopyString($1))
	}
%}

%{
#include <stdio.h>
%}
