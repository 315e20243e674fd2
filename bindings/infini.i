/* The C interface, wrapped as it stands for Java, C# and Go.
 *
 * Each language's typemaps do three things and no more: a status that is an error becomes the language's own, with its
 * code and message; arrays, texts and out-parameters become the language's own; a handle becomes what can hold one.
 * What comes out is internal to each package. The public classes over it are written by hand (java/, csharp/, go/)
 * and carry what C leaves to the caller: lifetimes, one call at a time, growing buffers, iteration.
 *
 * Nothing here names a function of the header that has no callback, so a new one needs no change.
 */
%module native
%{
#include <stdlib.h>
#include <string.h>
#include <infini/infini_train.h>
%}

%include <stdint.i>
%apply long long { int64_t };

#if defined(SWIGJAVA)
%include "java.i"
#elif defined(SWIGCSHARP)
%include "csharp.i"
#elif defined(SWIGGO)
%include "go.i"
#endif

/* Callbacks would need C++ directors; each has a pull twin, but for sums over processes. */
%ignore infini_session_generate;
%ignore infini_task_set_progress;
%ignore infini_log_set_callback;
%ignore infini_trainer_set_ranks;

/* The public layer has its own, documented. */
%ignore infini_status;
%ignore infini_snapshot_flags;
%ignore infini_token_flags;
%ignore infini_chat_flags;
%ignore infini_log_level;
%ignore INFINI_ABI_VERSION;
%rename($ignore, %$isenumitem) "";

%include "infini.h"
%include "infini_train.h"

/* The version of the interface that this package was made for, to be compared with infini_abi_version(). */
%inline %{
static int infini_package_abi_version(void) { return INFINI_ABI_VERSION; }
%}
