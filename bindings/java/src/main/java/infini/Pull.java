package infini;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Supplier;

/** What a supplier gives until it gives null: all iterators draw from the one run that it stands for. */
record Pull<T>(Supplier<T> supplier) implements Iterable<T> {
  @Override public Iterator<T> iterator() {
    return new Iterator<>() {
      private T next;
      private boolean ended;

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
    };
  }
}
