using System.Text;

namespace Infini;

/// <summary>Text on its way to and from the library.</summary>
internal static unsafe class Utf8
{
    // A lone surrogate, which UTF-8 cannot hold, is refused and not replaced.
    private static readonly UTF8Encoding Strict = new(false, true);

    internal static byte[] Encode(string text) => Strict.GetBytes(text);

    internal static Encoder NewEncoder() => Strict.GetEncoder();

    /// <summary>The string, checked to be what C can hold: no zero in it, no half of a surrogate pair.</summary>
    internal static string ZeroEnded(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.Contains('\0')) throw new ArgumentException("the string has a zero character in it");
        _ = Strict.GetByteCount(text);
        return text;
    }

    /// <summary>A call that fills a buffer and sets its size.</summary>
    internal delegate int Filler(byte* buffer, nuint capacity, nuint* size);

    /// <summary>What a call gives whose size is not known before; null where it answers that nothing more comes.</summary>
    /// <param name="fill">The call.</param>
    /// <param name="path">The file that it reads, if any.</param>
    /// <param name="guess">Bytes that are mostly enough, so that it is made once.</param>
    internal static byte[]? Bytes(Filler fill, string? path = null, int guess = 512)
    {
        byte[] buffer = new byte[guess];
        while (true)
        {
            nuint size;
            int status;
            fixed (byte* data = buffer) status = fill(data, (nuint)buffer.Length, &size);
            if (status == (int)Status.BufferTooSmall)
            {
                buffer = new byte[checked((int)size)];
                continue;
            }
            if (InfiniException.Check(status, path) == InfiniException.End) return null;
            return (int)size == buffer.Length ? buffer : buffer[..(int)size];
        }
    }

    internal static string Text(Filler fill) => Encoding.UTF8.GetString(Bytes(fill)!);
}
