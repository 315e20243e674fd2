import infini.Infini;

/** Loads the library and prints its version; java.sh runs it with the loader's properties set in several ways. */
class Loads {
  public static void main(String[] args) {
    System.out.println(Infini.version());
  }
}
