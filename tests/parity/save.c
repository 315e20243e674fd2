/* Saves a model as the library writes it:
     save OUT MODEL.gguf     one that was opened
     save OUT '{...}'        one that was created, see infini_model_create */
#include <infini/infini.h>
#include <stdio.h>

int main(int argc, char **argv) {
  infini_model *model = NULL;
  infini_status status;
  if (argc != 3) return fprintf(stderr, "usage: %s OUT MODEL.gguf | JSON\n", argv[0]), 2;
  status = argv[2][0] == '{' ? infini_model_create(argv[2], NULL, NULL, &model)
                             : infini_model_open(argv[2], NULL, NULL, &model);
  if (status == INFINI_OK) status = infini_model_save(model, argv[1], NULL);
  if (status != INFINI_OK) fprintf(stderr, "%s\n", infini_last_error());
  infini_model_free(model);
  return status != INFINI_OK;
}
