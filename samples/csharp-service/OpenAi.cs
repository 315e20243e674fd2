using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Infini;

/// <summary>The interface that OpenAI's clients speak, under /v1, and the memories that its requests may name: then only
/// messages that are new are read, and the rest is remembered.</summary>
internal sealed class OpenAi(string modelName, Sessions sessions, Work work, long maxTokens, Func<HttpContext, Body> bodyOf, CancellationToken ending)
{
    internal void Map(WebApplication app)
    {
        app.MapGet("/v1/models", () => Results.Json(new
        {
            @object = "list",
            data = new[] { new { id = modelName, @object = "model", created = 0, owned_by = "infini" } },
        }));
        app.MapPost("/v1/chat/completions", context => Complete(context, true));
        app.MapPost("/v1/completions", context => Complete(context, false));
        app.MapPost("/v1/embeddings", Embed);
        app.MapGet("/v1/memories", async () => Results.Json(new
        {
            @object = "list",
            data = (await sessions.Memories()).Select(memory => sessions.DescribeMemory(memory.Key, memory.Value)),
        }));
        app.MapDelete("/v1/memories/{name}", async (string name) =>
        {
            await sessions.Forget(name);
            return Results.NoContent();
        });
    }

    internal static object Error(Refusal refusal) => new
    {
        error = new
        {
            message = refusal.Message,
            type = refusal.Code switch
            {
                401 => "authentication_error",
                429 => "rate_limit_error",
                >= 500 => "server_error",
                _ => "invalid_request_error",
            },
            param = (string?)null,
            code = refusal.Name.ToLowerInvariant(),
        },
    };

    private async Task Complete(HttpContext context, bool chat)
    {
        var fields = new Fields(await bodyOf(context).ToArrayAsync(ending));
        var options = OptionsOf(fields);
        string memory = fields.Text("memory") ?? context.Request.Headers["Infini-Memory"].ToString();
        var reply = new Reply(context.Response, chat, fields.Flag("stream"), fields.Within("stream_options").Flag("include_usage"), modelName, work);
        var messages = chat ? fields.List("messages") : [];
        if (chat && messages.Count == 0) throw Refusal.Invalid("\"messages\" must be a list of messages");
        string[] prompts = chat ? [""] : fields.Texts("prompt");
        if (prompts.Length != 1) throw Refusal.Invalid("\"prompt\" must be one text");
        await Do(context, memory, reply.Id, async (client, session, cancelled) =>
        {
            session.SetOptions(options);
            long begun = session.Position;
            await reply.Write(session, cancelled, async () =>
            {
                if (!chat)
                {
                    session.StartGeneration();
                    await work.ReadText(context, session, prompts[0], cancelled);
                    return;
                }
                var (fresh, known) = NewMessages(messages, client.Known);
                string written = "[" + string.Join(',', fresh.Select(message => message.GetRawText())) + "]";
                await work.ReadChat(context, session, written, cancelled);
                client.Known = known;
            }, async () =>
            {
                if (memory == "" || Work.PositionOf(session, begun) == begun) return; // nothing came
                await sessions.Keep(memory, client, session);
                Account.Of(context).Kept = true;
            });
        });
    }

    private async Task Embed(HttpContext context)
    {
        var fields = new Fields(await bodyOf(context).ToArrayAsync(ending));
        string[] texts = fields.Texts("input");
        if (texts.Length == 0) throw Refusal.Invalid("\"input\" must be a text or a list of texts");
        string format = fields.Text("encoding_format") ?? "float";
        if (format is not ("float" or "base64")) throw Refusal.Invalid("\"encoding_format\" must be \"float\" or \"base64\"");
        fields.Unsupported(("dimensions", []));
        await Do(context, "", "embeddings-" + Reply.NewId(), async (_, session, cancelled) =>
        {
            var data = new List<object>();
            long tokens = 0;
            foreach (string text in texts)
            {
                session.Reset();
                await work.ReadText(context, session, text, cancelled);
                if (session.Position == 0) throw Refusal.Invalid($"text {data.Count} of \"input\" has no tokens");
                float[] numbers = session.Embedding();
                tokens += session.Position;
                data.Add(new { @object = "embedding", index = data.Count, embedding = format == "float" ? numbers : (object)Packed(numbers) });
            }
            await context.Response.WriteAsJsonAsync(new
            {
                @object = "list", data, model = modelName, usage = new { prompt_tokens = tokens, total_tokens = tokens },
            }, cancelled);
        });
    }

    private static string Packed(float[] numbers)
    {
        byte[] bytes = new byte[4 * numbers.Length];
        for (int i = 0; i < numbers.Length; ++i) BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(4 * i), numbers[i]);
        return Convert.ToBase64String(bytes);
    }

    // Has its turn with the memory of that name or, where it is empty, with a session for this request alone.
    private async Task Do(HttpContext context, string memory, string request,
                          Func<Client, Session, CancellationToken, Task> use)
    {
        if (memory != "") // it comes first, so that who waits for it holds nobody up
        {
            await sessions.Use(memory, true, context, ending, (client, session, cancelled) =>
                work.Do(context, cancelled, either => Do(client, session, either)));
            return;
        }
        using var over = CancellationTokenSource.CreateLinkedTokenSource(ending, Connection.Of(context).Left);
        await work.Do(context, over.Token, async cancelled =>
        {
            var client = await sessions.Add(request, sessions.NewSession());
            try
            {
                return await client.Use(context, cancelled, (session, either) => Do(client, session, either));
            }
            finally
            {
                sessions.Remove(request);
            }
        });

        async Task<bool> Do(Client client, Session session, CancellationToken cancelled)
        {
            await use(client, session, cancelled);
            return true;
        }
    }

    // A request's options, as the library knows them. What is not given is as OpenAI's interface has it.
    private InfiniSessionOptions OptionsOf(Fields fields)
    {
        fields.Unsupported(
            ("n", ["1"]), ("best_of", ["1"]), ("echo", ["false"]), ("suffix", ["\"\""]), ("logprobs", ["false"]), ("top_logprobs", ["0"]),
            ("tools", ["[]"]), ("tool_choice", ["\"none\"", "\"auto\""]), ("functions", ["[]"]), ("function_call", ["\"none\"", "\"auto\""]),
            ("response_format", ["{\"type\":\"text\"}", "{\"type\": \"text\"}"]), ("audio", []), ("prediction", []),
            ("modalities", ["[\"text\"]"]));
        long most = maxTokens;
        foreach (string name in (string[])["max_tokens", "max_completion_tokens"])
        {
            long asked = fields.Integer(name) ?? most;
            if (asked < 0) throw Refusal.Invalid($"\"{name}\" is {asked}, but must be at least 0");
            most = Math.Min(most, asked);
        }
        var biases = fields.Within("logit_bias");
        var options = new InfiniSessionOptions { UnknownText = "skip" };
        options["temperature"] = fields.Number("temperature") ?? 1;
        options["top_p"] = fields.Number("top_p") ?? 1;
        options["presence_penalty"] = fields.Number("presence_penalty") ?? 0;
        options["frequency_penalty"] = fields.Number("frequency_penalty") ?? 0;
        options["seed"] = fields.Integer("seed") ?? RandomNumberGenerator.GetInt32(int.MaxValue);
        options["max_tokens"] = most;
        options["stop"] = fields.Texts("stop");
        options["logit_bias"] = string.Join(',', biases.Names.Select(token => FormattableString.Invariant($"{token}:{biases.Number(token)}")));
        return options;
    }

    // The messages behind the ones that were read, which `known` tells: all, where it knows none of them. With them
    // comes what is known when they are read: the digest of all messages and, for clients that drop old ones, that of
    // the user's last one. Replies do not count: those that the memory gave are its own, whatever the client has kept.
    private static (List<JsonElement> Fresh, string Known) NewMessages(List<JsonElement> messages, string known)
    {
        using var sum = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        string[] knew = known.Split(':');
        string digest = "", last = "";
        int begin = 0, behindLast = 0;
        for (int i = 0; i < messages.Count; ++i)
        {
            JsonElement given = default, content = default;
            if (messages[i].ValueKind == JsonValueKind.Object) // the library says what is wrong with others
            {
                messages[i].TryGetProperty("role", out given);
                messages[i].TryGetProperty("content", out content);
            }
            string role = given.ValueKind == JsonValueKind.String ? given.GetString()! : "";
            if (role != "assistant")
            {
                string said = Canonical.Of(content);
                sum.AppendData(Encoding.UTF8.GetBytes($"{role}\0{said}\0"));
                digest = Hex(sum.GetCurrentHash());
                if (role == "user") last = Hex(SHA256.HashData(Encoding.UTF8.GetBytes(said)))[..16];
            }
            if (digest != "" && digest == knew[0]) begin = i + 1;
            if (role == "user" ? last == knew[^1] : role == "assistant" && behindLast == i && i > 0) behindLast = i + 1;
        }
        if (begin == 0) begin = behindLast;
        if (begin == messages.Count) --begin; // asked once more
        return (messages[begin..], $"{digest}:{last}");

        static string Hex(byte[] sum) => Convert.ToHexString(sum).ToLowerInvariant();
    }
}

/// <summary>The answer to one request for a completion.</summary>
internal sealed class Reply(HttpResponse response, bool chat, bool stream, bool usage, string model, Work work)
{
    private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private readonly Events events = new(response, work);
    private bool opened; // a streamed chat has said whose turn it is

    internal string Id { get; } = NewId();

    internal static string NewId() => Convert.ToHexString(RandomNumberGenerator.GetBytes(12)).ToLowerInvariant();

    /// <summary>Reads what was said, sends what the model writes, and keeps all before it says that it has ended. What fails
    /// before anything was sent is thrown.</summary>
    internal async Task Write(Session session, CancellationToken cancelled, Func<Task> read, Func<Task> keep)
    {
        long before = session.Position, begin = before;
        var text = new StringBuilder();
        string reason;
        try
        {
            try
            {
                await read();
                begin = session.Position;
                reason = await work.Run(events, response.HttpContext, session, async piece =>
                {
                    if (!stream)
                    {
                        text.Append(piece);
                        return;
                    }
                    await Open();
                    await events.Send("", chat ? Chunk(new { content = piece }, null) : Whole(piece, null));
                }, stream, cancelled);
            }
            finally
            {
                await keep();
            }
            if (reason == "cancelled") throw new OperationCanceledException(); // clients know no such reason
        }
        catch (Exception e) when (response.HasStarted && (e is Refusal or InfiniException || Refusal.IsCancel(e)))
        {
            await events.Send("", OpenAi.Error(Refusal.Of(e)));
            return;
        }
        long end = session.Position;
        string finish = reason is "max_tokens" or "max_time" ? "length" : "stop";
        var used = new { prompt_tokens = begin - before, completion_tokens = end - begin, total_tokens = end - before };
        if (!stream)
        {
            await response.WriteAsJsonAsync(Whole(text.ToString(), finish, used), response.HttpContext.RequestAborted);
            return;
        }
        await Open();
        await events.Send("", chat ? Chunk(new { }, finish) : Whole("", finish));
        if (usage)
            await events.Send("", new { id = FullId, @object = Kind, created, model, choices = Array.Empty<object>(), usage = used });
        await events.Write("data: [DONE]\n\n");
    }

    private async Task Open()
    {
        if (!chat || opened) return;
        opened = true;
        await events.Send("", Chunk(new { role = "assistant", content = "" }, null));
    }

    private string FullId => (chat ? "chatcmpl-" : "cmpl-") + Id;
    private string Kind => !chat ? "text_completion" : stream ? "chat.completion.chunk" : "chat.completion";

    private object Chunk(object delta, string? finish) => new
    {
        id = FullId, @object = Kind, created, model,
        choices = new[] { new { index = 0, delta, finish_reason = finish, logprobs = (object?)null } },
    };

    private object Whole(string text, string? finish, object? used = null)
    {
        var choice = new Dictionary<string, object?> { ["index"] = 0, ["finish_reason"] = finish, ["logprobs"] = null };
        if (chat) choice["message"] = new { role = "assistant", content = text, refusal = (string?)null };
        else choice["text"] = text;
        var whole = new Dictionary<string, object?>
        {
            ["id"] = FullId, ["object"] = Kind, ["created"] = created, ["model"] = model, ["choices"] = new[] { choice },
        };
        if (used is not null) whole["usage"] = used;
        return whole;
    }
}

/// <summary>The fields of a request. Absent and null are the same; fields that nothing here asks for do not count.</summary>
internal sealed class Fields
{
    private readonly Dictionary<string, JsonElement> values;

    internal Fields(byte[] body) => values = Json.Read(body, keys => keys
        .Where(key => key.Value.ValueKind != JsonValueKind.Null).ToDictionary(key => key.Name, key => key.Value.Clone()));

    private Fields(JsonElement json) => values = json.EnumerateObject()
        .Where(key => key.Value.ValueKind != JsonValueKind.Null).ToDictionary(key => key.Name, key => key.Value);

    internal IEnumerable<string> Names => values.Keys.Order(StringComparer.Ordinal);

    internal double? Number(string name) => Get(name, JsonValueKind.Number, "a number") is { } value
        ? value.TryGetDouble(out double number) ? number : throw Bad(name, "a number") : null;

    internal long? Integer(string name) => Get(name, JsonValueKind.Number, "a whole number") is { } value
        ? value.TryGetInt64(out long number) ? number : throw Bad(name, "a whole number") : null;

    internal string? Text(string name) => Get(name, JsonValueKind.String, "a text")?.GetString();

    internal bool Flag(string name) => values.TryGetValue(name, out var value) && value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Bad(name, "true or false"),
    };

    internal List<JsonElement> List(string name, string wanted = "a list") => Get(name, JsonValueKind.Array, wanted)?.EnumerateArray().ToList() ?? [];

    /// <summary>A text, or a list of texts.</summary>
    internal string[] Texts(string name)
    {
        if (!values.TryGetValue(name, out var value)) return [];
        if (value.ValueKind == JsonValueKind.String) return [value.GetString()!];
        const string wanted = "a text or a list of texts";
        return List(name, wanted).Select(text => text.ValueKind == JsonValueKind.String ? text.GetString()! : throw Bad(name, wanted)).ToArray();
    }

    internal Fields Within(string name) => Get(name, JsonValueKind.Object, "an object") is { } value
        ? new Fields(value) : new Fields("{}"u8.ToArray());

    /// <summary>Refuses what the service does not do; the values are those that ask for nothing.</summary>
    internal void Unsupported(params (string Name, string[] Harmless)[] unsupported)
    {
        foreach (var (name, harmless) in unsupported)
        {
            if (values.TryGetValue(name, out var value) && !harmless.Contains(value.GetRawText()))
                throw Refusal.Invalid($"\"{name}\" is not supported here");
        }
    }

    private JsonElement? Get(string name, JsonValueKind kind, string wanted)
    {
        if (!values.TryGetValue(name, out var value)) return null;
        return value.ValueKind == kind ? value : throw Bad(name, wanted);
    }

    private static Refusal Bad(string name, string wanted) => Refusal.Invalid($"\"{name}\" must be {wanted}");
}
