using System.Runtime.CompilerServices;
using System.Text;

namespace Infini;

// Writing.
public sealed partial class Session
{
    private byte[] buffer = new byte[256]; // of NextText

    /// <summary>Generates until at least one whole character is ready.</summary>
    /// <param name="cancellation">Cancels between tokens, and while other calls have their turn; the session may go on after
    /// it.</param>
    /// <returns>That text; null when the run has ended (end token, stop string, or option "max_tokens"), and the call after
    /// that begins a new run.</returns>
    /// <exception cref="InfiniException">State (nothing was fed yet, or the model has no tokenizer), Cancelled (by
    /// <see cref="Cancel"/>; another call goes on).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public string? NextText(CancellationToken cancellation = default)
    {
        using (turn.Take(cancellation)) return WriteText(cancellation);
    }

    /// <summary>Does what <see cref="NextText"/> does, on a thread of the pool.</summary>
    /// <param name="cancellation">As in <see cref="NextText"/>.</param>
    /// <returns>As from <see cref="NextText"/>.</returns>
    public async Task<string?> NextTextAsync(CancellationToken cancellation = default)
    {
        string? text = null;
        await OnPool(() => text = WriteText(cancellation), cancellation).ConfigureAwait(false);
        return text;
    }

    /// <summary>The text of a run of generation: each element is generated when it is asked for.</summary>
    /// <param name="cancellation">As in <see cref="NextText"/>.</param>
    /// <returns>Text that ends with the run; asking for it throws what <see cref="NextText"/> throws.</returns>
    public IEnumerable<string> Generate(CancellationToken cancellation = default)
    {
        while (NextText(cancellation) is { } text) yield return text;
    }

    /// <summary>The text of a run of generation, each element generated on a thread of the pool.</summary>
    /// <param name="cancellation">As in <see cref="NextText"/>.</param>
    /// <returns>Text that ends with the run; asking for it throws what <see cref="NextText"/> throws.</returns>
    public async IAsyncEnumerable<string> GenerateAsync([EnumeratorCancellation] CancellationToken cancellation = default)
    {
        while (await NextTextAsync(cancellation).ConfigureAwait(false) is { } text) yield return text;
    }

    /// <summary>Samples a token from the last logits, feeds it and gives it. An end token ends the run and is not
    /// fed.</summary>
    /// <param name="cancellation">Cancels while other calls have their turn, too; the session may go on after it, and holds a
    /// token that was fed meanwhile.</param>
    /// <returns>The token; null when the run has ended, and the call after that begins a new run.</returns>
    /// <exception cref="InfiniException">State (nothing was fed yet), Cancelled (by <see cref="Cancel"/>; another call goes
    /// on).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe int? NextToken(CancellationToken cancellation = default)
    {
        int token;
        int* to = &token;
        using (turn.Take(cancellation))
        {
            int status = work.Run(task => Native.infini_session_next(Handle, task, to), null, cancellation);
            return status == InfiniException.End ? null : token;
        }
    }

    /// <summary>The tokens of a run of generation: each is generated when it is asked for.</summary>
    /// <param name="cancellation">As in <see cref="NextToken"/>.</param>
    /// <returns>Tokens that end with the run; asking for them throws what <see cref="NextToken"/> throws.</returns>
    public IEnumerable<int> Tokens(CancellationToken cancellation = default)
    {
        while (NextToken(cancellation) is { } token) yield return token;
    }

    /// <summary>Begins a new run before the last one has ended: "max_tokens" and stop strings count from here.</summary>
    public void StartGeneration() => Call(Native.infini_session_start_generation);

    /// <summary>Why the run has ended: "none" (it has not), "end_token", "stop_string" or "max_tokens".</summary>
    public unsafe string StopReason => Text(Native.infini_session_stop_reason);

    /// <summary>Cancels the running call of this session: it throws Cancelled. From any thread, without waiting for a turn.
    /// Whoever wants to stop a call that has not begun gives it a token.</summary>
    public void Cancel() => InfiniException.Check(Native.infini_session_cancel(Handle));

    // In turn.
    private unsafe string? WriteText(CancellationToken cancellation)
    {
        nuint size = 0;
        int status = work.Run(task =>
        {
            int answer;
            while ((answer = Fill(task)) == (int)Status.BufferTooSmall) buffer = new byte[checked((int)size)];
            return answer;
        }, null, cancellation);
        return status == InfiniException.End ? null : Encoding.UTF8.GetString(buffer, 0, (int)size);

        int Fill(TaskHandle task)
        {
            nuint given;
            fixed (byte* data = buffer)
            {
                int answer = Native.infini_session_next_text(Handle, task, data, (nuint)buffer.Length, &given);
                size = given;
                return answer;
            }
        }
    }
}
