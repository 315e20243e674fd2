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
            while (true)
            {
                var next = session.NextTextAsync(cancelled);
                while (!next.IsCompleted) await Beat(next);
                if (await next is not { } text) break;
                await Send("text", new { text });
            }
            await Send("end", new { stop_reason = session.StopReason });
        }
        catch (Exception e) when (Refusal.IsCancel(e))
        {
            await Send("end", new { stop_reason = "cancelled" });
        }
        catch (InfiniException e) when (response.HasStarted)
        {
            var refusal = Refusal.Of(e);
            await Send("error", new { error = refusal.Name, message = refusal.Message });
        }
        return Results.Empty;
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

    private Task Send(string name, object data) => Write($"event: {name}\ndata: {JsonSerializer.Serialize(data)}\n\n");

    private async Task Write(string text)
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
