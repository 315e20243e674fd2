// Serves sessions of one model over HTTP, with ASP.NET Core. samples/SERVICES.md describes its calls, which the services in
// the other languages have too.
//   INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]
using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Features;
using Infini;

string? token = Environment.GetEnvironmentVariable("INFINI_TOKEN");
if (args.Length < 1 || string.IsNullOrEmpty(token))
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]");
    return 1;
}
const long MaxOptions = 1 << 16; // bytes
long maxBody = Number("INFINI_MAX_BODY", 1L << 30), maxSessions = Number("INFINI_MAX_SESSIONS", 100);
using var model = Model.Open(args[0]);
var sessions = new ConcurrentDictionary<string, Client>();

var builder = WebApplication.CreateSlimBuilder();
builder.Logging.SetMinimumLevel(Microsoft.Extensions.Logging.LogLevel.Warning);
builder.WebHost.ConfigureKestrel(options => options.Limits.MaxRequestBodySize = maxBody);
var app = builder.Build();
app.Urls.Add("http://" + (args.Length > 1 ? args[1] : "127.0.0.1:8080"));

app.Use(async (context, next) =>
{
    try
    {
        string given = context.Request.Headers.Authorization.ToString();
        if (!CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(given), Encoding.UTF8.GetBytes("Bearer " + token)))
            throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
        var limit = context.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>();
        if (context.Request is { Method: "POST", Path.Value: "/sessions" }) limit.MaxRequestBodySize = Math.Min(MaxOptions, maxBody);
        if (context.Request.ContentLength > limit.MaxRequestBodySize) throw TooLarge();
        await next(context);
        if (context.Response is { HasStarted: false, StatusCode: 404 }) throw new Refusal(404, "NOT_FOUND", "there is no such path");
        if (context.Response is { HasStarted: false, StatusCode: 405 })
            throw new Refusal(405, "METHOD_NOT_ALLOWED", "the path has no such method");
    }
    catch (Exception) when (context.RequestAborted.IsCancellationRequested)
    {
        // nobody listens
    }
    catch (Exception e) when (!context.Response.HasStarted)
    {
        var refusal = RefusalOf(e);
        context.Response.StatusCode = refusal.Code;
        await context.Response.WriteAsJsonAsync(new { error = refusal.Name, message = refusal.Message });
    }
});

// Makes a session with the options of the body, a JSON object such as {"max_tokens": 100}; empty: the defaults.
app.MapPost("/sessions", async (HttpContext context) =>
{
    var body = new MemoryStream();
    await context.Request.Body.CopyToAsync(body, context.RequestAborted);
    var session = model.CreateSession(OptionsOf(body.ToArray()));
    string id = Convert.ToHexString(RandomNumberGenerator.GetBytes(16)).ToLowerInvariant();
    lock (sessions)
    {
        if (sessions.Count >= maxSessions)
        {
            session.Dispose();
            throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
        }
        sessions[id] = new Client(session);
    }
    return Results.Json(new { id }, statusCode: 201);
});

app.MapDelete("/sessions/{id}", (string id) => With(id, session =>
{
    sessions.TryRemove(id, out _);
    session.Dispose();
    return Task.FromResult(Results.NoContent());
}));

app.MapPost("/sessions/{id}/feed", (string id, HttpContext context) => With(id, async session =>
{
    await session.FeedAsync(context.Request.Body, null, context.RequestAborted);
    return Results.Json(new { position = session.Position });
}));

// Sends the text of a run as server-sent events. It ends when the client goes away, and the session may go on.
app.MapPost("/sessions/{id}/generate", (string id, HttpContext context) => With(id, async session =>
{
    try
    {
        await foreach (string text in session.GenerateAsync(context.RequestAborted)) await Send("text", new { text });
        await Send("end", new { stop_reason = session.StopReason });
    }
    catch (InfiniException e) when (context.Response.HasStarted)
    {
        var refusal = RefusalOf(e);
        await Send("error", new { error = refusal.Name, message = refusal.Message });
    }
    return Results.Empty;

    async Task Send(string name, object data)
    {
        if (!context.Response.HasStarted)
        {
            context.Response.ContentType = "text/event-stream";
            context.Response.Headers.CacheControl = "no-store";
        }
        await context.Response.WriteAsync($"event: {name}\ndata: {JsonSerializer.Serialize(data)}\n\n", context.RequestAborted);
        await context.Response.Body.FlushAsync(context.RequestAborted);
    }
}));

app.MapGet("/sessions/{id}/snapshot", (string id) => With(id, session =>
    Task.FromResult(Results.Bytes(session.Snapshot(), "application/octet-stream"))));

app.MapPut("/sessions/{id}/snapshot", (string id, HttpContext context) => With(id, async session =>
{
    var body = new MemoryStream();
    await context.Request.Body.CopyToAsync(body, context.RequestAborted);
    session.Restore(body.GetBuffer().AsSpan(0, (int)body.Length));
    return Results.Json(new { position = session.Position });
}));

await app.StartAsync();
Console.WriteLine("listening on " + app.Urls.First().Replace("http://", ""));
await app.WaitForShutdownAsync();
return 0;

static long Number(string variable, long otherwise) =>
    long.TryParse(Environment.GetEnvironmentVariable(variable), out long value) ? value : otherwise;

// Uses a session, which one request may do at a time.
async Task<IResult> With(string id, Func<Session, Task<IResult>> use)
{
    if (!sessions.TryGetValue(id, out var client)) throw new Refusal(404, "NOT_FOUND", "there is no such session");
    // A moment's wait: the request before may have answered and not quite ended.
    if (!await client.Turn.WaitAsync(1000)) throw new Refusal(409, "BUSY", "another request uses the session");
    try
    {
        return await use(client.Session);
    }
    finally
    {
        client.Turn.Release();
    }
}

static Options OptionsOf(byte[] body)
{
    var options = new Options();
    if (body.Length == 0) return options;
    try
    {
        using var json = JsonDocument.Parse(body);
        foreach (var option in json.RootElement.EnumerateObject())
        {
            switch (option.Value.ValueKind)
            {
                case JsonValueKind.Number when option.Value.TryGetInt64(out long number):
                    options.Add(option.Name, number);
                    break;
                case JsonValueKind.Number:
                    options.Add(option.Name, option.Value.GetDouble());
                    break;
                case JsonValueKind.True or JsonValueKind.False:
                    options.Add(option.Name, option.Value.GetBoolean() ? 1 : 0);
                    break;
                default:
                    options.Add(option.Name, option.Value.GetString()!);
                    break;
            }
        }
        return options;
    }
    catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentNullException)
    {
        throw new Refusal(400, "INVALID_ARGUMENT", "the body is not a JSON object of options: " + e.Message);
    }
}

Refusal TooLarge() => new(413, "TOO_LARGE", "the body is larger than it may be");

Refusal RefusalOf(Exception e) => e switch
{
    Refusal refusal => refusal,
    BadHttpRequestException { StatusCode: 413 } => TooLarge(),
    ObjectDisposedException => new Refusal(404, "NOT_FOUND", "there is no such session"),
    InfiniException failed => new Refusal(failed.Status switch
    {
        Status.InvalidArgument or Status.UnknownOption => 400,
        Status.State or Status.Cancelled => 409,
        Status.ModelMismatch or Status.Version or Status.Checksum or Status.Format or Status.Truncated => 422,
        _ => 500,
    }, JsonNamingPolicy.SnakeCaseUpper.ConvertName(failed.Status.ToString()), failed.Message),
    _ => new Refusal(500, "INTERNAL", e.Message),
};

internal sealed class Client(Session session)
{
    internal readonly Session Session = session;
    internal readonly SemaphoreSlim Turn = new(1);
}

/// <summary>An answer other than success.</summary>
internal sealed class Refusal(int code, string name, string message) : Exception(message)
{
    internal int Code => code;
    internal string Name => name;
}
