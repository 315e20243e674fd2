import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/** A text that is read ahead of the model, so that it shows when the client leaves. */
final class Ahead extends InputStream {
  private static final int MOST = 8 << 20; // bytes

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final ArrayDeque<byte[]> pieces = new ArrayDeque<>();
  private int taken; // of the first piece
  private int held; // bytes of all pieces
  private boolean ended;
  private Refusal failure;

  /** Takes all of a body in, on a thread of its own; returns early where nobody reads any more. */
  void fill(InputStream body) throws IOException {
    byte[] buffer = new byte[1 << 16];
    while (true) {
      int n = body.read(buffer);
      lock.lock();
      try {
        while (held >= MOST && failure == null) changed.awaitUninterruptibly();
        if (failure != null) return;
        if (n < 0) ended = true;
        else pieces.add(Arrays.copyOf(buffer, n));
        held += Math.max(n, 0);
        changed.signalAll();
      } finally {
        lock.unlock();
      }
      if (n < 0) return;
    }
  }

  void fail(Refusal why) {
    lock.lock();
    if (failure == null) failure = why;
    changed.signalAll();
    lock.unlock();
  }

  @Override public int read() {
    throw new UnsupportedOperationException();
  }

  @Override public int read(byte[] bytes, int offset, int length) {
    lock.lock();
    try {
      while (pieces.isEmpty() && !ended && failure == null) changed.awaitUninterruptibly();
      if (failure != null) throw failure;
      if (pieces.isEmpty()) return -1;
      byte[] first = pieces.peek();
      int n = Math.min(length, first.length - taken);
      System.arraycopy(first, taken, bytes, offset, n);
      taken += n;
      if (taken == first.length) {
        pieces.remove();
        held -= taken;
        taken = 0;
        changed.signalAll();
      }
      return n;
    } finally {
      lock.unlock();
    }
  }

  @Override public void close() {
    fail(new Refusal(409, "CANCELLED", "the feed has ended"));
  }
}
