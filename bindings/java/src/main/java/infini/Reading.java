package infini;

import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongSupplier;

/** A text of any length on its way into a session, in pieces of at most 64 KiB, and how far that has come. */
final class Reading {
  private static final int LARGEST = 1 << 16; // bytes of a piece

  /** What reads a piece of the text, or only hears whether the reading was cancelled. */
  interface Reader {
    void read(byte[] piece);

    void hear();
  }

  final long total; // bytes of the text; 0: not known
  private final AtomicLong shown = new AtomicLong();
  private volatile Piece piece = new Piece(0, 0);

  /** The piece that is being read: bytes before it, and its own. */
  private record Piece(long before, long size) {}

  Reading(long total) {
    this.total = total;
  }

  /** Bytes that were read; the native side's progress, in tokens, tells how much of the present piece. */
  long done(LongSupplier tokensDone, LongSupplier tokens) {
    Piece now = piece; // before the native side is asked, whose progress begins anew before a piece does
    long read = tokensDone.getAsLong();
    long all = tokens.getAsLong();
    long done = now.before + (all > 0 ? (long) (now.size * Math.min(1, (double) read / all)) : 0);
    return shown.accumulateAndGet(total > 0 ? Math.min(done, total) : done, Math::max);
  }

  void read(InputStream text, Reader reader) throws IOException {
    Handle pieces = Handle.of("text stream", Native::infini_text_stream_free, Native::infini_text_stream_create);
    try {
      byte[] data = new byte[LARGEST];
      reader.hear();
      long taken = 0;
      for (int n; (n = text.read(data)) >= 0; taken += n) {
        byte[] arrived = Arrays.copyOf(data, n);
        pieces.call(pieces, stream -> Native.infini_text_stream_push(stream, arrived));
        hand(pieces, data, reader);
      }
      pieces.call(pieces, Native::infini_text_stream_finish);
      hand(pieces, data, reader);
      piece = new Piece(taken, 0);
    } finally {
      pieces.close(stream -> {});
    }
  }

  private void hand(Handle pieces, byte[] buffer, Reader reader) {
    long[] size = {0};
    while (true) {
      reader.hear(); // the native side's progress is 0 of 0 from here on, until a piece is begun
      int status = pieces.call(pieces, stream -> Native.infini_text_stream_next(stream, buffer, size));
      if (status == Status.END) return;
      byte[] bytes = Arrays.copyOf(buffer, (int) size[0]);
      long before = piece.before;
      piece = new Piece(before, bytes.length);
      try {
        reader.read(bytes);
      } catch (InfiniException e) {
        if (before == 0 || e.status() != Status.INVALID_ARGUMENT) throw e;
        throw new InfiniException(e.code(), "in the piece of the text that begins at byte " + before + ": " + e.getMessage());
      }
      piece = new Piece(before + bytes.length, 0);
    }
  }
}
