using System.Text.Json;
using Infini;

/// <summary>An answer of server-sent events.</summary>
internal sealed class Events(HttpResponse response)
{
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(5); // of comments while no text comes

    /// <summary>Sends the text of a run, and why it ended. What fails before anything was sent is thrown.</summary>
    internal async Task<IResult> Generate(Session session, CancellationToken cancelled)
    {
        try
        {
            string reason = await Run(session, text => Send("text", new { text }), true, cancelled);
            await Send("end", new { stop_reason = reason });
        }
        catch (InfiniException e) when (response.HasStarted)
        {
            var refusal = Refusal.Of(e);
            await Send("error", new { error = refusal.Name, message = refusal.Message });
        }
        return Results.Empty;
    }

    /// <summary>Lets the model write, piece by piece, and returns why it ended: "cancelled" too, when the client goes away, and
    /// the session may go on. With beats, comments are sent while no text comes.</summary>
    internal async Task<string> Run(Session session, Func<string, Task> take, bool beats, CancellationToken cancelled)
    {
        try
        {
            while (true)
            {
                var next = session.NextTextAsync(cancelled);
                while (beats && !next.IsCompleted) await Beat(next);
                if (await next is not { } text) return session.StopReason;
                await take(text);
            }
        }
        catch (Exception e) when (Refusal.IsCancel(e))
        {
            return "cancelled";
        }
    }

    private async Task Beat(Task next)
    {
        try
        {
            await next.WaitAsync(Heartbeat, CancellationToken.None);
        }
        catch (TimeoutException) when (!next.IsCompleted)
        {
            await Write(":\n\n");
        }
    }

    /// <summary>Sends an event, which may have no name.</summary>
    internal Task Send(string name, object data) =>
        Write((name == "" ? "" : $"event: {name}\n") + $"data: {JsonSerializer.Serialize(data)}\n\n");

    internal async Task Write(string text)
    {
        var gone = response.HttpContext.RequestAborted;
        if (!response.HasStarted)
        {
            response.ContentType = "text/event-stream";
            response.Headers.CacheControl = "no-store";
        }
        await response.WriteAsync(text, gone);
        await response.Body.FlushAsync(gone);
    }
}
