package infini;

import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.function.Consumer;

/** Cuts a long text into pieces that can be fed one by one. */
final class Pieces {
  private static final int LARGEST = 1 << 16; // bytes

  private Pieces() {}

  static void each(InputStream text, Consumer<byte[]> feed) throws IOException {
    Handle pieces = Handle.of("text stream", Native::infini_text_stream_free, Native::infini_text_stream_new);
    try {
      byte[] data = new byte[LARGEST];
      for (int n; (n = text.read(data)) >= 0;) {
        byte[] arrived = Arrays.copyOf(data, n);
        pieces.call(pieces, stream -> Native.infini_text_stream_push(stream, arrived));
        hand(pieces, data, feed);
      }
      pieces.call(pieces, Native::infini_text_stream_finish);
      hand(pieces, data, feed);
    } finally {
      pieces.close(stream -> {});
    }
  }

  private static void hand(Handle pieces, byte[] buffer, Consumer<byte[]> feed) {
    long[] size = {0};
    while (pieces.call(pieces, stream -> Native.infini_text_stream_next(stream, buffer, size)) != Status.END) {
      feed.accept(Arrays.copyOf(buffer, (int) size[0]));
    }
  }
}
