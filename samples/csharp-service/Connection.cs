using System.Buffers;
using System.Collections.Concurrent;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

/// <summary>Stands between a connection and Kestrel: it reads ahead, so that a client that goes away is noticed while the model
/// reads what it sent before, and hides the end of what comes until the request is answered, because Kestrel does not answer
/// behind that end.</summary>
internal sealed class Connection
{
    private const int Ahead = 8 << 20; // bytes
    private static readonly TimeSpan Parting = TimeSpan.FromSeconds(1);

    // Once a client has left, nothing else holds a connection that waits for the rest of a head, and a collected one keeps its place.
    private static readonly ConcurrentDictionary<Connection, bool> Served = [];

    private readonly Pipe ahead = new(new PipeOptions(pauseWriterThreshold: Ahead, resumeWriterThreshold: Ahead / 2,
                                                      useSynchronizationContext: false));
    private readonly CancellationTokenSource left = new();
    private bool asked; // something came since the last answer
    private bool serving; // a request, of which the head is there
    private bool ended;

    /// <summary>Ends when the client goes away, or when the service ends before the head of a request is there.</summary>
    internal CancellationToken Left => left.Token;

    /// <summary>It was the service, which reads no further: a request that came just then may be cut short.</summary>
    internal bool Closing { get; private set; }

    internal static Connection Of(HttpContext context) => context.Features.GetRequiredFeature<Connection>();

    internal static async Task Serve(ConnectionContext context, ConnectionDelegate next)
    {
        var connection = new Connection();
        Served[connection] = true;
        context.Features.Set(connection);
        context.ConnectionClosed = CancellationToken.None; // Kestrel is told by what it reads
        var transport = context.Transport;
        context.Transport = new Ends(connection.ahead.Reader, transport.Output);
        var reading = connection.ReadAhead(transport.Input);
        using var closing = context.Features.Get<IConnectionLifetimeNotificationFeature>()?.ConnectionClosedRequested.Register(
            () => _ = connection.Close(transport.Input));
        try
        {
            await next(context);
        }
        finally
        {
            await connection.ahead.Reader.CompleteAsync();
            await Task.WhenAny(reading, Task.Delay(Parting)); // an answer is lost where what the client still sends meets a closed connection
            transport.Input.CancelPendingRead();
            await reading;
            await connection.ahead.Writer.CompleteAsync();
            context.Transport = transport;
            Served.TryRemove(connection, out _);
        }
    }

    /// <summary>A request is to be answered.</summary>
    internal void Asked()
    {
        lock (ahead) serving = true;
    }

    /// <summary>The request was answered.</summary>
    internal void Answered()
    {
        lock (ahead)
        {
            asked = serving = false;
            if (ended) ahead.Writer.Complete();
        }
    }

    // The service ends: nobody waits for a client that is silent, nor for long for one that is amid a head.
    private async Task Close(PipeReader input)
    {
        bool begun;
        lock (ahead) begun = asked && !serving;
        if (begun) await Task.Delay(Parting);
        lock (ahead)
        {
            if (serving || ended) return;
            Closing = true;
            asked = false;
            input.CancelPendingRead();
        }
    }

    private async Task ReadAhead(PipeReader input)
    {
        try
        {
            for (bool wanted = true; ;)
            {
                var read = await input.ReadAsync();
                lock (ahead) asked |= !read.Buffer.IsEmpty;
                if (wanted)
                {
                    foreach (var part in read.Buffer) ahead.Writer.Write(part.Span);
                }
                input.AdvanceTo(read.Buffer.End);
                if (wanted) wanted = !(await ahead.Writer.FlushAsync()).IsCompleted;
                if (read.IsCompleted || read.IsCanceled) break;
            }
        }
        catch (Exception e) when (e is IOException or ConnectionAbortedException or OperationCanceledException)
        {
            // the connection broke
        }
        await left.CancelAsync();
        lock (ahead)
        {
            ended = true;
            if (!asked) ahead.Writer.Complete();
        }
    }

    private sealed record Ends(PipeReader Input, PipeWriter Output) : IDuplexPipe;
}
