package infini;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Supplier;

/** An iterator over what a supplier gives until it gives null. */
final class Pull<T> implements Iterator<T> {
  private final Supplier<T> supplier;
  private T next;
  private boolean ended;

  Pull(Supplier<T> supplier) {
    this.supplier = supplier;
  }

  @Override public boolean hasNext() {
    if (next == null && !ended) {
      next = supplier.get();
      ended = next == null;
    }
    return next != null;
  }

  @Override public T next() {
    if (!hasNext()) throw new NoSuchElementException();
    T given = next;
    next = null;
    return given;
  }
}
