import java.io.IOException;
import java.io.InputStream;

/**
 * A text of which the model reads a piece in a turn, which it gives up while it waits for more: who is slow to send holds up nobody.
 */
final class InTurns extends InputStream {
  private final InputStream text;
  private final Turns turns;
  private final String client;
  private final Client.Call call;
  private final byte[] piece = new byte[1 << 12]; // as many bytes as the library takes for a piece
  private int taken;
  private int size; // of the piece; -1: the text has ended
  private boolean inside;

  /** Waits for the first piece, and then for its turn, which may be refused. */
  InTurns(InputStream text, Turns turns, String client, Client.Call call) throws IOException {
    this.text = text;
    this.turns = turns;
    this.client = client;
    this.call = call;
    size = text.read(piece);
    turns.take(client, call);
    inside = true;
  }

  @Override public int read() {
    throw new UnsupportedOperationException();
  }

  @Override public int read(byte[] bytes, int offset, int length) throws IOException {
    if (taken == size) {
      close();
      size = text.read(piece);
      turns.again(client, call);
      inside = true;
      taken = 0;
    }
    if (size < 0) return -1;
    int n = Math.min(length, size - taken);
    System.arraycopy(piece, taken, bytes, offset, n);
    taken += n;
    return n;
  }

  @Override public void close() {
    if (inside) turns.leave();
    inside = false;
  }
}
