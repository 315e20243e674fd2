package infini;

import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Text on its way to and from the library. */
final class Utf8 {
  private Utf8() {}

  /** The text as UTF-8. A lone surrogate, which UTF-8 cannot hold, is refused and not replaced. */
  static byte[] encode(String text) {
    try {
      ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
      byte[] result = new byte[bytes.remaining()];
      bytes.get(result);
      return result;
    } catch (CharacterCodingException e) {
      throw new IllegalArgumentException("the string has half of a surrogate pair in it", e);
    }
  }

  /** The text as UTF-8 with a zero byte behind it and none in it, as C wants names and paths. */
  static byte[] zeroEnded(String text) {
    if (text.indexOf('\0') >= 0) throw new IllegalArgumentException("the string has a zero character in it");
    return encode(text + '\0');
  }

  /** The text as UTF-8, as it comes; closing it closes nothing. */
  static InputStream stream(Reader text) {
    return new InputStream() {
      private final char[] chars = new char[1 << 13];
      private int kept; // 1 where the first of them is half of a pair whose other half has not come
      private byte[] bytes = {};
      private int at;

      @Override public int read() throws IOException {
        byte[] one = {0};
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
      }

      @Override public int read(byte[] out, int offset, int length) throws IOException {
        while (at == bytes.length) {
          if (length == 0) return 0;
          int n = text.read(chars, kept, chars.length - kept);
          if (n < 0 && kept == 0) return -1;
          int end = kept + Math.max(n, 0);
          kept = n >= 0 && end > 0 && Character.isHighSurrogate(chars[end - 1]) ? 1 : 0;
          bytes = encode(new String(chars, 0, end - kept));
          if (kept == 1) chars[0] = chars[end - 1];
          at = 0;
        }
        int n = Math.min(length, bytes.length - at);
        System.arraycopy(bytes, at, out, offset, n);
        at += n;
        return n;
      }
    };
  }

  static String decode(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  /** A call that fills a buffer and sets its size. */
  interface Filler {
    int fill(byte[] buffer, long[] size);
  }

  /** What a call gives whose size is not known before; null where it answers that nothing more comes. */
  static byte[] bytes(Filler call) {
    return bytes(512, call);
  }

  static byte[] bytes(int expected, Filler call) {
    long[] size = {expected};
    while (true) { // more than twice only where another thread took what came first
      byte[] buffer = new byte[Math.toIntExact(size[0])];
      try {
        return call.fill(buffer, size) == Status.END ? null : Arrays.copyOf(buffer, (int) size[0]);
      } catch (InfiniException e) {
        if (e.status() != Status.BUFFER_TOO_SMALL) throw e;
      }
    }
  }

  static String text(Filler call) {
    return decode(bytes(call));
  }
}
