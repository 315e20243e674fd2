package infini;

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

  static String decode(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  /** A call that fills a buffer and sets its size. */
  interface Filler {
    int fill(byte[] buffer, long[] size);
  }

  /** What a call gives whose size is not known before; null where it answers that nothing more comes. */
  static byte[] bytes(Filler call) {
    long[] size = {512};
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
