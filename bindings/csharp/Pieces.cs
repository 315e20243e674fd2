using System.Text;

namespace Infini;

/// <summary>Cuts a long text into pieces that can be fed one by one.</summary>
internal sealed unsafe class Pieces : IDisposable
{
    internal const int Largest = 1 << 16; // bytes

    private readonly TextStreamHandle stream;
    private readonly byte[] piece = new byte[Largest];
    private long begin, end; // of the piece that was given last, in the text

    internal Pieces() => InfiniException.Check(Native.infini_text_stream_create(out stream));

    internal void Push(ReadOnlySpan<byte> data)
    {
        fixed (byte* text = data)
            InfiniException.Check(Native.infini_text_stream_push(stream, text, (nuint)data.Length));
    }

    internal void Finish() => InfiniException.Check(Native.infini_text_stream_finish(stream));

    /// <summary>The next piece, valid until the next call; null where more is needed first.</summary>
    internal ReadOnlyMemory<byte>? Next()
    {
        nuint size;
        fixed (byte* data = piece)
        {
            int status = Native.infini_text_stream_next(stream, data, (nuint)piece.Length, &size);
            if (InfiniException.Check(status) == InfiniException.End) return null;
            (begin, end) = (end, end + (long)size);
            return piece.AsMemory(0, (int)size);
        }
    }

    /// <summary>Of an error about the piece that was given last, whether it can say where that begins.</summary>
    internal bool Places(InfiniException error) => error.Status == Status.InvalidArgument && begin > 0;

    /// <summary>The same error with the place.</summary>
    internal InfiniException Placed(InfiniException error) =>
        new((int)error.Status, $"in the piece of the text that begins at byte {begin}: {error.Message}", null);

    public void Dispose() => stream.Dispose();
}

/// <summary>The UTF-8 of what a reader reads.</summary>
internal sealed class ReaderStream(TextReader reader) : Stream
{
    private readonly Encoder encoder = Utf8.NewEncoder();
    private readonly char[] chars = new char[1 << 13];
    private int begin, end; // of what is not encoded yet
    private bool ended;

    public override bool CanRead => true;
    public override bool CanSeek => false;
    public override bool CanWrite => false;
    public override long Length => throw new NotSupportedException();
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override int Read(Span<byte> buffer)
    {
        while (true)
        {
            if (Encode(buffer) is { } size) return size;
            Took(reader.Read(chars, 0, chars.Length));
        }
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellation = default)
    {
        while (true)
        {
            if (Encode(buffer.Span) is { } size) return size;
            Took(await reader.ReadAsync(chars.AsMemory(), cancellation).ConfigureAwait(false));
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));
    public override void Flush() => throw new NotSupportedException();
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
    public override void SetLength(long value) => throw new NotSupportedException();
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    // Null where more is to be read first.
    private int? Encode(Span<byte> buffer)
    {
        encoder.Convert(chars.AsSpan(begin, end - begin), buffer, ended, out int taken, out int size, out _);
        begin += taken;
        return size > 0 || ended ? size : null;
    }

    private void Took(int count)
    {
        (begin, end) = (0, count);
        ended = count == 0;
    }
}
