using System.Text.Json;
using Infini;

/// <summary>An answer of server-sent events.</summary>
internal sealed class Events(HttpResponse response, Work work)
{
    /// <summary>Sends the text of a run, and why it ended. What fails before anything was sent is thrown.</summary>
    internal async Task<IResult> Generate(Session session, CancellationToken cancelled)
    {
        try
        {
            string reason = await work.Run(this, response.HttpContext, session, text => Send("text", new { text }), true, cancelled);
            await Send("end", new { stop_reason = reason });
        }
        catch (InfiniException e) when (response.HasStarted)
        {
            var refusal = Refusal.Of(e);
            await Send("error", new { error = refusal.Name, message = refusal.Message });
        }
        return Results.Empty;
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
