using System.Text.Json;

namespace Infini;

/// <summary>A model's configuration, weights and tokenizer. It never changes, and may be used by any number of threads and
/// sessions at once.</summary>
/// <remarks><see cref="Dispose"/> may be called at any time, from any thread and more than once: calls that run finish,
/// later ones throw <see cref="ObjectDisposedException"/>, sessions keep what they need. A model that is never disposed
/// is freed by the garbage collector.</remarks>
public sealed unsafe class Model : IDisposable
{
    private readonly ModelHandle handle;
    private volatile bool disposed;

    private Model(ModelHandle handle) => this.handle = handle;

    private ModelHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return handle;
        }
    }

    /// <summary>Opens a GGUF file and packs its weights for this processor. The file stays mapped while the model lives:
    /// replace it, do not overwrite it. A file without tensors opens as a tokenizer alone.</summary>
    /// <param name="path">The file.</param>
    /// <param name="options">Null: all defaults.</param>
    /// <param name="progress">Hears, on other threads, of stage "open", in matrices.</param>
    /// <param name="cancellation">Cancels between layers.</param>
    /// <returns>The model, which the caller disposes.</returns>
    /// <exception cref="InfiniException">Io, Format, Truncated, Version, Unsupported, UnknownOption, InvalidArgument.</exception>
    /// <exception cref="OperationCanceledException">There is no model.</exception>
    public static Model Open(string path, InfiniModelOptions? options = null, IProgress<WorkProgress>? progress = null,
                             CancellationToken cancellation = default)
    {
        InfiniLibrary.RequireSameInterface();
        ModelHandle? model = null;
        InfiniOptions.With(options, o =>
            Work.RunOnce(task => Native.infini_model_open(path, o, task, out model), progress, cancellation, path));
        return new Model(model!);
    }

    /// <summary>Does what <see cref="Open"/> does, on a thread of the pool.</summary>
    /// <param name="path">As in <see cref="Open"/>.</param>
    /// <param name="options">As in <see cref="Open"/>.</param>
    /// <param name="progress">As in <see cref="Open"/>.</param>
    /// <param name="cancellation">As in <see cref="Open"/>.</param>
    /// <returns>The model, which the caller disposes.</returns>
    public static Task<Model> OpenAsync(string path, InfiniModelOptions? options = null, IProgress<WorkProgress>? progress = null,
                                        CancellationToken cancellation = default) =>
        Task.Run(() => Open(path, options, progress, cancellation), cancellation);

    /// <summary>Makes a model with random weights.</summary>
    /// <param name="configJson">A JSON object such as {"layers": 2, "width": 64}; "{}" has the defaults.
    /// <see cref="CreationSettingsJson"/> lists its fields.</param>
    /// <param name="options">As in <see cref="Open"/>.</param>
    /// <param name="progress">Hears, on other threads, of stages "create", in tensors, and "open", in matrices.</param>
    /// <param name="cancellation">Cancels between tensors.</param>
    /// <returns>The model, which the caller disposes.</returns>
    /// <exception cref="InfiniException">InvalidArgument (the message says what); Io, Format, ... of the tokenizer's
    /// file.</exception>
    /// <exception cref="OperationCanceledException">There is no model.</exception>
    public static Model Create(string configJson, InfiniModelOptions? options = null, IProgress<WorkProgress>? progress = null,
                               CancellationToken cancellation = default)
    {
        InfiniLibrary.RequireSameInterface();
        ModelHandle? model = null;
        InfiniOptions.With(options, o =>
            Work.RunOnce(task => Native.infini_model_create(configJson, o, task, out model), progress, cancellation, null));
        return new Model(model!);
    }

    /// <summary>Writes the model as a GGUF file: the numbers of the file that it came from, unchanged. The file is replaced
    /// whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes of tensors.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">Nothing was written.</exception>
    public void Save(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Work.RunOnce(task => Native.infini_model_save(Handle, path, task), progress, cancellation, path);

    /// <summary>The fields of a new model's configuration.</summary>
    /// <returns>A JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}.</returns>
    public static string CreationSettingsJson() => Utf8.Text(Native.infini_creation_settings_json);

    /// <summary>Learns what is worth keeping, of a model that keeps sentences (option "keep"), and writes the model's file with
    /// it.</summary>
    /// <param name="lessonJson">A JSON object of the fields that <see cref="KeepSettingsJson"/> lists, of which "pieces" must be
    /// there.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="progress">Hears, on other threads, of stage "keep", in tokens.</param>
    /// <param name="cancellation">Leaves nothing written.</param>
    /// <exception cref="InfiniException">State (the model keeps nothing, or has no tokenizer), InvalidArgument (the message names
    /// the field, or sentences of either sort are lacking), Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">Nothing was written.</exception>
    public void FitKeep(string lessonJson, string path, IProgress<WorkProgress>? progress = null,
                        CancellationToken cancellation = default) =>
        Work.RunOnce(task => Native.infini_model_fit_keep(Handle, lessonJson, path, task), progress, cancellation, path);

    /// <summary>The fields of what <see cref="FitKeep"/> learns from.</summary>
    /// <returns>As <see cref="CreationSettingsJson"/>.</returns>
    public static string KeepSettingsJson() => Utf8.Text(Native.infini_keep_settings_json);

    /// <summary>Writes the model of a file as another file, with its matrices quantised. The model need not fit in memory. Types
    /// whose blocks do not divide a matrix's rows give way to one of smaller blocks. The file is replaced whole or not at
    /// all.</summary>
    /// <param name="from">A GGUF file.</param>
    /// <param name="to">The file to write; may be the same.</param>
    /// <param name="type">"q8_0", "q6_k", "q4_k", "q4_0", ...; the C header lists the types.</param>
    /// <param name="options">Threads; may be null.</param>
    /// <param name="progress">Hears, on other threads, of stage "quantize", in bytes written.</param>
    /// <param name="cancellation">Leaves nothing written.</param>
    /// <exception cref="InfiniException">As <see cref="Open"/>, of from; NoSpace; InvalidArgument (no such type).</exception>
    /// <exception cref="OperationCanceledException">Nothing was written.</exception>
    public static void Quantize(string from, string to, string type, InfiniModelOptions? options = null,
                                IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        InfiniLibrary.RequireSameInterface();
        InfiniOptions.With(options, o =>
            Work.RunOnce(task => Native.infini_model_quantize(from, to, type, o, task), progress, cancellation, from));
    }

    /// <summary>Starts an empty stream through the model.</summary>
    /// <param name="options">Null: all defaults.</param>
    /// <returns>The session, which the caller disposes.</returns>
    /// <exception cref="InfiniException">State (the model is a tokenizer alone), UnknownOption, InvalidArgument.</exception>
    public Session CreateSession(InfiniSessionOptions? options = null)
    {
        SessionHandle? session = null;
        InfiniOptions.With(options, o => InfiniException.Check(Native.infini_session_create(Handle, o, out session)));
        return new Session(session!, Vocabulary, Width);
    }

    /// <summary>Makes an empty batch, through which many sessions advance in one call.</summary>
    /// <returns>The batch, which the caller disposes.</returns>
    /// <exception cref="InfiniException">State: the model is a tokenizer alone.</exception>
    public Batch CreateBatch()
    {
        InfiniException.Check(Native.infini_batch_create(Handle, out var batch));
        return new Batch(batch);
    }

    /// <summary>Makes a trainer, which changes a copy of this model's weights.</summary>
    /// <param name="descriptionJson">A JSON object: "training" (what is trained and how), "data" (where sequences come from),
    /// such as {"training": {"train": "lora"}, "data": {"type": "text", "files": ["novel.txt"]}}, "curriculum" and "evaluation". Only
    /// "data" must be there. <see cref="Trainer.SettingsJson"/> lists their fields.</param>
    /// <param name="options">"threads", and "compute", which overrides that of the description.</param>
    /// <param name="progress">Hears, on other threads, of stage "create", in matrices.</param>
    /// <param name="cancellation">Cancels between matrices.</param>
    /// <returns>The trainer, which the caller disposes.</returns>
    /// <exception cref="InfiniException">InvalidArgument (the message names the field), State (the model has no weights, or no
    /// tokenizer where the data needs one), Io, Format (of a file of the data), UnknownOption.</exception>
    /// <exception cref="OperationCanceledException">There is no trainer.</exception>
    public Trainer CreateTrainer(string descriptionJson, InfiniModelOptions? options = null,
                                 IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        TrainerHandle? trainer = null;
        InfiniOptions.With(options, o =>
            Work.RunOnce(task => Native.infini_trainer_create(Handle, descriptionJson, o, task, out trainer), progress,
                         cancellation, null));
        return new Trainer(trainer!);
    }

    /// <summary>The tokens of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="special">Whether control tokens written in the text are parsed; never for text that is not
    /// trusted.</param>
    /// <param name="start">Whether the text begins a stream, so that BOS and the space prefix are added where the model
    /// wants them.</param>
    /// <returns>The tokens.</returns>
    /// <exception cref="InfiniException">State: the model has no tokenizer.</exception>
    public int[] Tokenize(string text, bool special = false, bool start = false)
    {
        byte[] bytes = Utf8.Encode(text);
        fixed (byte* data = bytes)
        {
            byte* pinned = data;
            return Tokens((nuint)bytes.Length + 16, (buffer, capacity, size) => Native.infini_model_tokenize( // hardly more
                Handle, pinned, (nuint)bytes.Length, Flags(special, start), buffer, capacity, size));
        }
    }

    /// <summary>How many tokens <see cref="Tokenize"/> would give.</summary>
    /// <param name="text">The text.</param>
    /// <param name="special">As in <see cref="Tokenize"/>.</param>
    /// <param name="start">As in <see cref="Tokenize"/>.</param>
    /// <returns>The number of tokens.</returns>
    /// <exception cref="InfiniException">State: the model has no tokenizer.</exception>
    public int CountTokens(string text, bool special = false, bool start = false)
    {
        byte[] bytes = Utf8.Encode(text);
        nuint size;
        fixed (byte* data = bytes)
        {
            InfiniException.Check(Native.infini_model_token_count(Handle, data, (nuint)bytes.Length, Flags(special, start), &size));
        }
        return (int)size;
    }

    /// <summary>The text of tokens, where what begins or ends inside a character shows as U+FFFD.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="special">Whether control tokens show as their names.</param>
    /// <param name="start">Whether the tokens begin a stream, so that the space prefix is taken off.</param>
    /// <returns>The text.</returns>
    /// <exception cref="InfiniException">InvalidArgument (a token is not in the vocabulary), State (the model has no
    /// tokenizer).</exception>
    public string Detokenize(ReadOnlySpan<int> tokens, bool special = false, bool start = false) =>
        System.Text.Encoding.UTF8.GetString(DetokenizeUtf8(tokens, special, start));

    /// <summary>The text of tokens as UTF-8, which may begin or end inside a character if the tokens do.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="special">As in <see cref="Detokenize"/>.</param>
    /// <param name="start">As in <see cref="Detokenize"/>.</param>
    /// <returns>The bytes.</returns>
    /// <exception cref="InfiniException">As <see cref="Detokenize"/>.</exception>
    public byte[] DetokenizeUtf8(ReadOnlySpan<int> tokens, bool special = false, bool start = false)
    {
        fixed (int* data = tokens)
        {
            int* pinned = data;
            nuint count = (nuint)tokens.Length;
            return Utf8.Bytes((buffer, capacity, size) => Native.infini_model_detokenize(
                Handle, pinned, count, Flags(special, start), buffer, capacity, size))!;
        }
    }

    /// <summary>Whether a token ends generation.</summary>
    /// <param name="token">The token.</param>
    /// <returns>Whether it is an end of text, turn or message.</returns>
    /// <exception cref="InfiniException">InvalidArgument, State.</exception>
    public bool IsEnd(int token)
    {
        int answer;
        InfiniException.Check(Native.infini_model_token_is_end(Handle, token, &answer));
        return answer != 0;
    }

    /// <summary>Whether a token is a control token.</summary>
    /// <param name="token">The token.</param>
    /// <returns>Whether it is one.</returns>
    /// <exception cref="InfiniException">InvalidArgument, State.</exception>
    public bool IsControl(int token)
    {
        int answer;
        InfiniException.Check(Native.infini_model_token_is_control(Handle, token, &answer));
        return answer != 0;
    }

    /// <summary>The token that begins a text, -1 where the model has none.</summary>
    /// <exception cref="InfiniException">State: the model has no tokenizer.</exception>
    public int Bos
    {
        get
        {
            int token;
            InfiniException.Check(Native.infini_model_bos(Handle, &token));
            return token;
        }
    }

    /// <summary>The token that ends a text, -1 where the model has none.</summary>
    /// <exception cref="InfiniException">State: the model has no tokenizer.</exception>
    public int Eos
    {
        get
        {
            int token;
            InfiniException.Check(Native.infini_model_eos(Handle, &token));
            return token;
        }
    }

    /// <summary>Writes messages as the model was trained to see them. The text has the contents as they are, control tokens
    /// that a user wrote among them: <see cref="Session.Chat(ChatMessage[])"/> and <see cref="ChatTokens"/> tell them
    /// apart.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="first">Whether they begin the conversation.</param>
    /// <param name="reply">Whether the text ends where the assistant speaks.</param>
    /// <returns>The text.</returns>
    /// <exception cref="InfiniException">InvalidArgument; Unsupported (no chat template, or one that cannot be run).</exception>
    public string ApplyChat(IEnumerable<ChatMessage> messages, bool first = true, bool reply = true)
    {
        string json = ChatMessage.Json(messages);
        return Utf8.Text((buffer, capacity, size) => Native.infini_model_apply_chat(
            Handle, json, Flags(first, reply), buffer, capacity, size));
    }

    /// <summary>The tokens of messages as the model was trained to see them; those of the contents are no control tokens. Between
    /// a generated reply and tokens that are not the first stands <see cref="ChatTurnEnd"/>.</summary>
    /// <param name="messages">As in <see cref="ApplyChat"/>.</param>
    /// <param name="first">As in <see cref="ApplyChat"/>; then they also begin a stream.</param>
    /// <param name="reply">As in <see cref="ApplyChat"/>.</param>
    /// <returns>The tokens.</returns>
    /// <exception cref="InfiniException">As <see cref="ApplyChat"/>.</exception>
    public int[] ChatTokens(IEnumerable<ChatMessage> messages, bool first = true, bool reply = true) =>
        ChatTokensJson(ChatMessage.Json(messages), first, reply);

    /// <summary>Does the same with messages as other programs write them.</summary>
    /// <param name="messagesJson">As <see cref="Session.ChatJson"/> takes them.</param>
    /// <param name="first">As in <see cref="ChatTokens"/>.</param>
    /// <param name="reply">As in <see cref="ChatTokens"/>.</param>
    /// <returns>The tokens.</returns>
    /// <exception cref="InfiniException">As <see cref="ApplyChat"/>.</exception>
    public int[] ChatTokensJson(string messagesJson, bool first = true, bool reply = true) =>
        Tokens((nuint)messagesJson.Length + 256, (buffer, capacity, size) => Native.infini_model_chat_tokens(
            Handle, messagesJson, Flags(first, reply), buffer, capacity, size));

    /// <summary>What closes the assistant's turn: to be fed after a generated reply.</summary>
    /// <exception cref="InfiniException">Unsupported: as <see cref="ApplyChat"/>.</exception>
    public string ChatTurnEnd =>
        Utf8.Text((buffer, capacity, size) => Native.infini_model_chat_turn_end(Handle, buffer, capacity, size));

    /// <summary>How many tokens the model knows: the length of a row of logits.</summary>
    public int Vocabulary
    {
        get
        {
            nuint size;
            InfiniException.Check(Native.infini_model_vocabulary(Handle, &size));
            return (int)size;
        }
    }

    /// <summary>The length of an embedding.</summary>
    /// <exception cref="InfiniException">State: the model is a tokenizer alone.</exception>
    public int Width
    {
        get
        {
            nuint size;
            InfiniException.Check(Native.infini_model_width(Handle, &size));
            return (int)size;
        }
    }

    /// <summary>One fact about the model as text.</summary>
    /// <param name="name">One of <see cref="InfoJson"/>'s, "fingerprint", or a key of the model's file such as
    /// "general.license".</param>
    /// <returns>The fact.</returns>
    /// <exception cref="InfiniException">InvalidArgument: nothing has that name; the message lists the names.</exception>
    public string Info(string name) =>
        Utf8.Text((buffer, capacity, size) => Native.infini_model_info(Handle, name, buffer, capacity, size));

    /// <summary>The facts about the model.</summary>
    /// <returns>What it is, how large, how it remembers.</returns>
    public ModelInfo Info() => JsonSerializer.Deserialize(InfoJson(), LibraryJson.Default.ModelInfo)!;

    /// <summary>The facts about the model, as the library wrote them.</summary>
    /// <returns>A JSON object: "name", "vocabulary", "layers", "width", "segment", ...</returns>
    public string InfoJson() =>
        Utf8.Text((buffer, capacity, size) => Native.infini_model_info_json(Handle, buffer, capacity, size));

    /// <summary>What each method of long context would hold for the past of a model of this shape.</summary>
    /// <param name="tokens">Length of the past.</param>
    /// <returns>Numbers and bytes by method.</returns>
    /// <exception cref="InfiniException">InvalidArgument (tokens is negative or too large), State (the model is a tokenizer
    /// alone).</exception>
    public Footprint Footprint(long tokens) => JsonSerializer.Deserialize(
        Utf8.Text((buffer, capacity, size) => Native.infini_model_footprint_json(Handle, tokens, buffer, capacity, size)),
        LibraryJson.Default.Footprint)!;

    /// <summary>Lets the model go. Disposing again does nothing.</summary>
    public void Dispose()
    {
        disposed = true;
        handle.Dispose();
    }

    // The flags of infini.h: INFINI_TOKENS_SPECIAL and _START, INFINI_CHAT_FIRST and _REPLY are bits 1 and 2.
    private static int Flags(bool first, bool second) => (first ? 1 : 0) | (second ? 2 : 0);

    internal delegate int Tokenizer(int* buffer, nuint capacity, nuint* size);

    // What a call gives whose size is not known, but guessed.
    internal static int[] Tokens(nuint size, Tokenizer fill)
    {
        while (true)
        {
            int[] tokens = new int[checked((int)size)];
            fixed (int* buffer = tokens)
            {
                int status = fill(buffer, (nuint)tokens.Length, &size);
                if (status == (int)Status.BufferTooSmall) continue;
                InfiniException.Check(status);
            }
            return tokens[..(int)size];
        }
    }
}
