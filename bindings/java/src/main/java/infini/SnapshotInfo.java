package infini;

import java.util.List;

/**
 * What a snapshot holds.
 *
 * @param kind "session" or "memory"
 * @param name as it was saved with
 * @param note as it was saved with
 * @param library version of the library that wrote it
 * @param formatVersion of the file
 * @param model name of the model that it belongs to
 * @param fingerprint of that model
 * @param position tokens that were read
 * @param memoryTokens of these, those in the memory
 * @param size in bytes
 * @param sections its parts, in order
 * @param json the whole as the library wrote it
 */
public record SnapshotInfo(String kind, String name, String note, String library, int formatVersion, String model,
    String fingerprint, long position, long memoryTokens, long size, List<Section> sections, String json) {
  /**
   * A part of a snapshot.
   *
   * @param name what it holds
   * @param offset where it begins, in bytes
   * @param storedSize bytes in the snapshot
   * @param size bytes once it is unpacked
   * @param encoding how it is packed, "plain" where it is not
   */
  public record Section(String name, long offset, long storedSize, long size, String encoding) {}

  static SnapshotInfo of(String json) {
    Json of = Json.object(json);
    Json model = of.part("model");
    Json view = of.part("view");
    List<Section> sections = of.list("sections").stream().map(Json::of)
        .map(section -> new Section(section.text("name"), section.whole("offset"), section.whole("stored_size"),
            section.whole("size"), section.text("encoding")))
        .toList();
    return new SnapshotInfo(of.text("kind"), of.text("name"), of.text("note"), of.text("library"),
        of.small("format_version"), model.text("name"), model.text("fingerprint"), view.whole("position"),
        view.whole("memory_tokens"), of.whole("size"), sections, json);
  }
}
