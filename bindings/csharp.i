/* C#: a handle is a SafeHandle, which keeps a handle alive while a call uses it; arrays are pointers that the public
   layer pins; a status is its number, checked by the public layer on the same thread. */

%define %csharp_as(TYPES, CTYPE, CSHARP)
%typemap(ctype)  TYPES CTYPE
%typemap(imtype) TYPES CSHARP
%typemap(cstype) TYPES CSHARP
%typemap(csin)   TYPES "$csinput"
%typemap(in)     TYPES "$1 = ($1_ltype)$input;"
%typemap(csout, excode="") TYPES { return $imcall; }
%enddef

%define %csharp_out(TYPE, CTYPE, CSHARP)
%typemap(ctype)  TYPE CTYPE
%typemap(imtype) TYPE "out " CSHARP
%typemap(cstype) TYPE "out " CSHARP
%typemap(csin)   TYPE "out $csinput"
%typemap(in)     TYPE "$1 = ($1_ltype)$input;"
%enddef

/* A SafeHandle frees what it holds by itself, so that infini_NAME_free takes a bare pointer here. */
%define %csharp_handle(NAME, HANDLE, OUT)
%ignore infini_##NAME##_free;
%inline { static void infini_##NAME##_release(void *handle) { infini_##NAME##_free((infini_##NAME *)handle); } }
%csharp_as(infini_##NAME *, "void *", HANDLE)
%csharp_as(const infini_##NAME *, "void *", HANDLE)
%typemap(ctype)  infini_##NAME ** "void *"
%typemap(imtype) infini_##NAME ** OUT
%typemap(cstype) infini_##NAME ** OUT
%typemap(csin)   infini_##NAME ** "out $csinput"
%typemap(in)     infini_##NAME ** "$1 = ($1_ltype)$input;"
%enddef

%csharp_as(void *handle, "void *", "nint")
%csharp_handle(model, "ModelHandle", "out ModelHandle")
%csharp_handle(session, "SessionHandle", "out SessionHandle")
%csharp_handle(options, "OptionsHandle", "out OptionsHandle")
%csharp_handle(task, "TaskHandle", "out TaskHandle")
%csharp_handle(text_stream, "TextStreamHandle", "out TextStreamHandle")
%csharp_handle(batch, "BatchHandle", "out BatchHandle")
%csharp_handle(trainer, "TrainerHandle", "out TrainerHandle")
%csharp_handle(adaptation, "AdaptationHandle", "out AdaptationHandle")

%csharp_as(size_t, "size_t", "nuint")
%csharp_as(const int32_t *tokens, "void *", "int*")
%csharp_as(const char *text, "void *", "byte*")
%csharp_as(const void *data, "void *", "byte*")
%csharp_as(void *buffer, "void *", "byte*")
%csharp_as(char *buffer, "void *", "byte*")
%csharp_as(int32_t *buffer, "void *", "int*")
%csharp_as(float *, "void *", "float*")
%csharp_as(size_t *, "void *", "nuint*")
%csharp_as(int64_t *, "void *", "long*")
%csharp_as(double *, "void *", "double*")
%csharp_as(int32_t *, "void *", "int*")
%csharp_as(int *, "void *", "int*")

/* Strings go in as UTF-8. What comes out belongs to the library and is copied, never freed. */
%typemap(imtype, inattributes="[global::System.Runtime.InteropServices.MarshalAs(global::System.Runtime.InteropServices.UnmanagedType.LPUTF8Str)] ",
         out="global::System.IntPtr") const char * "string"
%typemap(csin) const char * "Utf8.ZeroEnded($csinput)"
%typemap(out) const char * "$result = (char *)$1;"
%typemap(csout, excode="") const char * { return global::System.Runtime.InteropServices.Marshal.PtrToStringUTF8($imcall); }

%typemap(ctype)  infini_status "int"
%typemap(imtype) infini_status "int"
%typemap(cstype) infini_status "int"
%typemap(out)    infini_status "$result = $1;"
%typemap(csout, excode="") infini_status { return $imcall; }

/* A batch holds the handles of its sessions itself, closed ones too. */
%ignore infini_batch_add;
%ignore infini_batch_remove;
%inline {
static infini_status infini_batch_add_held(infini_batch *batch, void *handle) {
  return infini_batch_add(batch, (infini_session *)handle);
}
static infini_status infini_batch_remove_held(infini_batch *batch, void *handle) {
  return infini_batch_remove(batch, (const infini_session *)handle);
}
}

%pragma(csharp) moduleclassmodifiers="internal static unsafe class"
%pragma(csharp) imclassclassmodifiers="internal unsafe class"
