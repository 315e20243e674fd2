using System.Buffers;
using System.Text.Json;
using System.Text.Unicode;
using Infini;

/// <summary>An answer other than success.</summary>
internal sealed class Refusal(int code, string name, string message) : Exception(message)
{
    internal int Code => code;
    internal string Name => name;

    internal static Refusal Invalid(string message) => new(400, "INVALID_ARGUMENT", message);

    internal static Refusal BadlyFramed() => Invalid("the body ends early or is badly framed");

    internal static Refusal TooLarge() => new(413, "TOO_LARGE", "the body is larger than it may be");

    internal static Refusal Ending() => new(503, "ENDING", "the service is about to end; try again");

    /// <summary>Whether a call ended because it was told to.</summary>
    internal static bool IsCancel(Exception e) =>
        e is OperationCanceledException or ObjectDisposedException or InfiniException { Status: Status.Cancelled };

    /// <summary>Whether the store of memories failed: nothing else has to do with files or databases.</summary>
    internal static bool IsOfStore(Exception e) =>
        e is IOException or UnauthorizedAccessException or System.Data.Common.DbException
            or InfiniException { Status: Status.Io };

    internal static Refusal Of(Exception e) => e switch
    {
        Refusal refusal => refusal,
        BadHttpRequestException { StatusCode: 413 } => TooLarge(),
        ArgumentException bad => Invalid(bad.Message), // a text that C cannot hold
        BadHttpRequestException => BadlyFramed(),
        OutOfMemoryException => new(503, "OUT_OF_MEMORY", "the service has no memory for this; try again later"),
        _ when IsCancel(e) => new Refusal(409, "CANCELLED", "the call was cancelled"),
        _ when IsOfStore(e) => new(503, "STORE_FAILED", "the store of memories failed; the service's log says why"),
        InfiniException failed => new Refusal(failed.Status switch
        {
            Status.InvalidArgument or Status.UnknownOption or Status.Unsupported => 400,
            Status.State => 409,
            Status.ModelMismatch or Status.Version or Status.Checksum or Status.Format or Status.Truncated => 422,
            Status.OutOfMemory => 503,
            _ => 500,
        }, JsonNamingPolicy.SnakeCaseUpper.ConvertName(failed.Status.ToString()), failed.Message),
        _ => new Refusal(500, "INTERNAL", "the service failed; its log says why"),
    };
}

/// <summary>A stream that is only read, and only without blocking.</summary>
internal abstract class Readable : Stream
{
    public override bool CanRead => true;
    public override bool CanSeek => false;
    public override bool CanWrite => false;
    public override long Length => throw new NotSupportedException();
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    public override void Flush() => throw new NotSupportedException();
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
    public override void SetLength(long value) => throw new NotSupportedException();
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}

/// <summary>The body of a request, which may be slow but not silent.</summary>
internal sealed class Body(HttpContext context, TimeSpan patience) : Readable
{
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellation = default)
    {
        var reader = context.Request.BodyReader;
        var left = Connection.Of(context).Left;
        using var waiting = CancellationTokenSource.CreateLinkedTokenSource(cancellation, left);
        waiting.CancelAfter(patience);
        using var watch = waiting.Token.Register(reader.CancelPendingRead);
        System.IO.Pipelines.ReadResult read;
        try
        {
            read = await reader.ReadAsync(CancellationToken.None);
        }
        catch (IOException e) when (e is not BadHttpRequestException)
        {
            throw Refusal.BadlyFramed();
        }
        var taken = read.Buffer.Slice(0, Math.Min(buffer.Length, read.Buffer.Length));
        taken.CopyTo(buffer.Span);
        int size = (int)taken.Length;
        reader.AdvanceTo(taken.End);
        if (size == 0 && !read.IsCompleted)
        {
            if (left.IsCancellationRequested) throw Refusal.BadlyFramed();
            cancellation.ThrowIfCancellationRequested();
            context.Response.Headers.Connection = "close";
            throw new Refusal(408, "TIMEOUT", $"no byte of the body came for {patience.TotalSeconds} s");
        }
        return size;
    }

    /// <summary>All of it.</summary>
    internal async Task<byte[]> ToArrayAsync(CancellationToken cancellation)
    {
        var all = new MemoryStream();
        await CopyToAsync(all, cancellation);
        return all.ToArray();
    }
}

/// <summary>What bodies of JSON say.</summary>
internal static class Json
{
    private const int MaxDepth = 64; // of lists and objects in a body, one within another

    // The most that a client may ask for.
    private static readonly Dictionary<string, long> Bounds = new()
    {
        ["threads"] = Environment.ProcessorCount, ["chunk"] = 512, ["checkpoints"] = 16, ["compress"] = 9,
    };

    /// <summary>Options of a session; the library checks them.</summary>
    internal static InfiniSessionOptions OptionsOf(byte[] body)
    {
        var options = new InfiniSessionOptions { UnknownText = "skip" };
        if (body.All(b => b is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n')) return options;
        return Read(body, keys =>
        {
            foreach (var (name, value) in keys)
            {
                options[name] = value.ValueKind switch
                {
                    JsonValueKind.Number when value.TryGetInt64(out long number) => number,
                    JsonValueKind.Number => value.GetDouble(),
                    JsonValueKind.True or JsonValueKind.False => value.GetBoolean(),
                    JsonValueKind.Array when name == "stop" => value.EnumerateArray().Select(text =>
                        text.ValueKind == JsonValueKind.String ? text.GetString()! : throw Refusal.Invalid("option 'stop' takes texts")).ToArray(),
                    JsonValueKind.String => value.GetString(),
                    _ => throw Refusal.Invalid($"option '{name}' is neither a number, nor a text, nor true or false"),
                };
                if (Bounds.TryGetValue(name, out long most) && options[name] is long asked && asked > most)
                    throw Refusal.Invalid($"option '{name}' may be at most {most} here");
            }
            return options;
        });
    }

    /// <summary>The list of {"messages": [...]}, as it stands; the library reads it.</summary>
    internal static string MessagesOf(byte[] body) => Read(body, keys =>
        keys is [("messages", { ValueKind: JsonValueKind.Array } messages)] ? messages.GetRawText()
            : throw Refusal.Invalid("the body must be {\"messages\": [...]}"));

    /// <summary>Reads a JSON object.</summary>
    internal static T Read<T>(byte[] body, Func<List<(string Name, JsonElement Value)>, T> use)
    {
        if (!Utf8.IsValid(body)) throw Refusal.Invalid("the body is not UTF-8");
        using var json = Parse(body);
        if (json.RootElement.ValueKind != JsonValueKind.Object) throw Refusal.Invalid("the body is not a JSON object");
        return use(json.RootElement.EnumerateObject().Select(key => (key.Name, key.Value)).ToList());
    }

    private static JsonDocument Parse(byte[] body)
    {
        try
        {
            var json = JsonDocument.Parse(body, new() { MaxDepth = int.MaxValue });
            Check(json.RootElement, 1);
            return json;
        }
        catch (JsonException e)
        {
            long at = 1 + (e.BytePositionInLine ?? 0);
            int begin = 0;
            for (long line = e.LineNumber ?? 0; line > 0; --line) begin += 1 + body.AsSpan(begin).IndexOf((byte)'\n');
            throw Refusal.Invalid($"the body is not JSON from byte {Math.Min(begin + at, body.Length)} on");
        }
        catch (InvalidOperationException)
        {
            throw Refusal.Invalid("a text of the body has half of a surrogate pair");
        }
    }

    // Refuses what JSON allows, but what nobody means: keys that stand twice in an object, and values nested too deep.
    private static void Check(JsonElement value, int depth)
    {
        if (value.ValueKind is JsonValueKind.Object or JsonValueKind.Array && depth > MaxDepth)
            throw Refusal.Invalid($"the body is nested deeper than {MaxDepth}");
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                var names = new HashSet<string>();
                foreach (var key in value.EnumerateObject())
                {
                    if (!names.Add(key.Name)) throw Refusal.Invalid($"'{key.Name}' stands twice in the body");
                    Check(key.Value, depth + 1);
                }
                break;
            case JsonValueKind.Array:
                foreach (var one in value.EnumerateArray()) Check(one, depth + 1);
                break;
            case JsonValueKind.String:
                _ = value.GetString(); // which fails of half of a surrogate pair
                break;
        }
    }
}
