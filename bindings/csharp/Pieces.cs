namespace Infini;

/// <summary>Cuts a long text into pieces that can be fed one by one.</summary>
internal sealed unsafe class Pieces : IDisposable
{
    internal const int Largest = 1 << 16; // bytes

    private readonly TextStreamHandle stream;
    private readonly byte[] piece = new byte[Largest];

    internal Pieces() => InfiniException.Check(Native.infini_text_stream_new(out stream));

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
            return piece.AsMemory(0, (int)size);
        }
    }

    public void Dispose() => stream.Dispose();
}
