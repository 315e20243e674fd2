using System.Text.Unicode;
using Infini;

/// <summary>The C# service in front of a silo. A request that names a memory is answered by the silo that has it, all others
/// here.</summary>
internal sealed class Front : Service
{
    private const string Forwarded = "Infini-Forwarded", Key = "Idempotency-Key", Silo = "Infini-Silo";
    private const int LongestKey = 200;
    private const long MostBody = 16 << 20; // bytes; a feed is one row, and is read as a whole

    private static readonly string[] Passed = ["Authorization", "Infini-Memory", Key];
    private static readonly string[] Returned =
        ["Content-Type", "Cache-Control", "Retry-After", "x-should-retry", Silo];
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(50), Patience = TimeSpan.FromSeconds(60);

    private readonly Memories memories;
    private readonly TimeSpan touch; // between calls that keep a memory where it is while it is used
    private readonly HttpMessageInvoker silos = new(new SocketsHttpHandler
    {
        AllowAutoRedirect = false, UseCookies = false, ConnectTimeout = TimeSpan.FromSeconds(2),
        PooledConnectionIdleTimeout = TimeSpan.FromSeconds(2), ActivityHeadersPropagator = null,
    });

    /// <param name="model">Whose sessions they are.</param>
    /// <param name="settings">Those of the service.</param>
    /// <param name="memories">Those of this silo.</param>
    /// <param name="idle">After which a memory leaves a silo.</param>
    /// <param name="grace">How long requests go on when the silo is told to end.</param>
    internal Front(Model model, Settings settings, Memories memories, TimeSpan idle, TimeSpan grace)
        : base(model, settings, memories, MostBody, grace)
    {
        (this.memories, touch) = (memories, idle / 2);
        memories.Sessions = Sessions;
    }

    /// <inheritdoc/>
    protected override async Task Route(HttpContext context, RequestDelegate next)
    {
        var request = context.Request;
        string? name = request.RouteValues["name"] as string; // of a path under /v1/memories
        bool completes = request.Path.StartsWithSegments("/v1") && request.Path.Value!.EndsWith("/completions", StringComparison.Ordinal);
        if (name is null && !completes)
        {
            await next(context);
            return;
        }
        if (name is not null) Sessions.CheckName(name); // before the body is read
        var left = Connection.Of(context).Left;
        byte[] body = await Body(context).ToArrayAsync(left);
        request.Body = new MemoryStream(body);
        if (completes) name = new Fields(body).Text("memory") ?? request.Headers["Infini-Memory"].ToString();
        if (name is null or "")
        {
            await next(context);
            return;
        }
        Sessions.CheckName(name);
        bool feeds = request.Path.Value!.EndsWith("/feed", StringComparison.Ordinal);
        if (feeds && request.Headers[Key].Count == 0) request.Headers[Key] = Guid.NewGuid().ToString("N"); // then we may repeat it
        await Answer(context, name, body, feeds || request.Method is "GET" or "PUT", next, left);
    }

    /// <inheritdoc/>
    protected override async Task<IResult> FeedMemory(HttpContext context, string name)
    {
        string key = context.Request.Headers[Key].ToString();
        if (key.Length > LongestKey) throw Refusal.Invalid($"the key has {key.Length} characters, but may have {LongestKey}");
        byte[] text = await Body(context).ToArrayAsync(CancellationToken.None);
        if (!Utf8.IsValid(text)) throw Refusal.Invalid("the text is not UTF-8");
        AdmitFeed(); // before it is in the database
        return await Sessions.Use(name, true, context, Over, async (_, session, _) =>
        {
            Task Read(Stream from) => Feed(context, session, from, true, CancellationToken.None);
            long number = 0;
            var (position, skipped) = await Count(context, session, async () => number = await memories.Of(name).Feed(key, text, Read));
            return Results.Json(new { position, skipped, number });
        });
    }

    /// <inheritdoc/>
    protected override async Task<byte[]> CopyOf(HttpContext context, string name)
    {
        Sessions.CheckName(name);
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{memories.Address}/v1/memories/{name}");
        request.Headers.TryAddWithoutValidation("Authorization", context.Request.Headers.Authorization.ToString());
        using var answer = await silos.SendAsync(request, Connection.Of(context).Left);
        if (answer.StatusCode == System.Net.HttpStatusCode.NotFound) throw Sessions.NoMemory();
        if (!answer.IsSuccessStatusCode) throw new Refusal(503, "NOT_AT_HAND", "the memory that is added is not at hand");
        return await answer.Content.ReadAsByteArrayAsync(Connection.Of(context).Left);
    }

    // Finds the silo that has the memory and has it answer, again where the memory has moved meanwhile or the silo was lost.
    private async Task Answer(HttpContext context, string name, byte[] body, bool repeatable, RequestDelegate next, CancellationToken left)
    {
        var request = context.Request;
        bool forwarded = request.Headers.ContainsKey(Forwarded), create = request.Method is "PUT" or "POST"
            && !request.Path.Value!.EndsWith($"/{name}/note", StringComparison.Ordinal);
        var grain = context.RequestServices.GetRequiredService<IGrainFactory>().GetGrain<IMemoryGrain>(name);
        using var alive = forwarded ? null : new Timer(_ => _ = Touch(grain), null, touch, touch);
        for (long begun = Environment.TickCount64; Environment.TickCount64 - begun < Patience.TotalMilliseconds; await Task.Delay(Pause, left))
        {
            string? address = memories.Address;
            try
            {
                if (!forwarded) address = await grain.Locate(create).WaitAsync(left);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                if (Ending.IsCancellationRequested) throw Refusal.Ending(); // this silo finds none any more
                continue; // a silo was lost, is slow, or has no room
            }
            if (address is null) throw Sessions.NoMemory();
            context.Request.Body = new MemoryStream(body);
            if (address == memories.Address ? await Here(context, name, next) : await There(context, address, body, repeatable, left)) return;
            if (forwarded) throw LiveMemory.Moved();
        }
        throw new Refusal(503, "NOT_AT_HAND", "no silo has the memory at hand; try again later");
    }

    private static async Task Touch(IMemoryGrain grain)
    {
        try
        {
            await grain.Locate(false);
        }
        catch (Exception)
        {
            // who answers will notice
        }
    }

    // Whether the memory was here.
    private async Task<bool> Here(HttpContext context, string name, RequestDelegate next)
    {
        if (memories.Enter(name) is not { } memory) return false;
        try
        {
            if (context.Request.Method == "GET") await memory.Confirm();
            context.Response.Headers[Silo] = memories.Address;
            await next(context);
            return true;
        }
        catch (Exception e) when (!context.Response.HasStarted
                                  && (e is Refusal { Code: LiveMemory.MovedCode } || memory.Lost && Refusal.IsCancel(e)))
        {
            return false;
        }
        finally
        {
            memory.Leave();
        }
    }

    // Whether the memory was there.
    private async Task<bool> There(HttpContext context, string address, byte[] body, bool repeatable, CancellationToken left)
    {
        var (request, response) = (context.Request, context.Response);
        using var message = new HttpRequestMessage(new(request.Method), $"http://{address}{request.Path.ToUriComponent()}");
        message.Content = new ByteArrayContent(body);
        foreach (string header in Passed)
        {
            if (request.Headers[header] is { Count: > 0 } values) message.Headers.TryAddWithoutValidation(header, [.. values]);
        }
        message.Headers.Add(Forwarded, "1");
        HttpResponseMessage answer;
        try
        {
            answer = await silos.SendAsync(message, left);
        }
        catch (HttpRequestException e) when (repeatable || e.HttpRequestError == HttpRequestError.ConnectionError)
        {
            return false;
        }
        catch (HttpRequestException)
        {
            throw new Refusal(503, "SILO_LOST", "the silo that had the memory was lost before it answered");
        }
        using (answer)
        {
            if ((int)answer.StatusCode == LiveMemory.MovedCode) return false;
            response.StatusCode = (int)answer.StatusCode;
            foreach (string header in Returned)
            {
                if (answer.Headers.TryGetValues(header, out var values) || answer.Content.Headers.TryGetValues(header, out values))
                    response.Headers[header] = values.ToArray();
            }
            await using var from = await answer.Content.ReadAsStreamAsync(left);
            byte[] buffer = new byte[1 << 14];
            for (int n; (n = await from.ReadAsync(buffer, left)) > 0; await response.Body.FlushAsync(left))
                await response.Body.WriteAsync(buffer.AsMemory(0, n), left);
        }
        return true;
    }
}
