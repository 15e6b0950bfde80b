/* Runs one signature of a SavedModel through TensorFlow's C API: no Python, none of dcign_tf.

   run_signature FOLDER SIGNATURE OUTPUT RESULT INPUT...

   FOLDER     a SavedModel; its graph tagged "serve" is loaded.
   SIGNATURE  such as serving_default or rerender_bytes.
   OUTPUT     which of the signature's outputs to keep.
   RESULT     the file it is written to: float32 in this machine's byte order, or the bytes of the first string.
   INPUT      NAME=DIMS:FILE  a tensor of these dimensions, such as images=2,38,38,1:faces.raw, whose float32 the
                              file holds
              NAME=@FILE      the bytes of one file, as a string tensor [1]
              NAME=NUMBER     a float32 tensor [1], such as azimuth=-30 or elevation=nan

   Which tensors of the graph the names stand for is read off the MetaGraphDef that TensorFlow returns. Exit status 1,
   and TensorFlow's message on stderr, if anything is refused. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

#define MOST_INPUTS 16
#define MOST_DIMENSIONS 4

/* Field numbers of meta_graph.proto, and of the entries of its maps. */
enum { SIGNATURE_DEF = 5, INPUTS = 1, OUTPUTS = 2, NAME = 1, KEY = 1, VALUE = 2 };

typedef struct {
  const unsigned char *at, *end;
} Span;

static void fail(const char *what, const char *detail) {
  fprintf(stderr, "%s: %s\n", what, detail);
  exit(1);
}

static void check(const TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* Protocol buffers' wire format: https://protobuf.dev/programming-guides/encoding */

static uint64_t read_varint(Span *message) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && message->at < message->end; shift += 7) {
    unsigned char byte = *message->at++;
    value |= (uint64_t)(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  fail("MetaGraphDef", "a number that does not end");
  return 0;
}

/* Moves on to the next field numbered `field` that holds bytes, and gives them; 0 when there is none. */
static int next_field(Span *message, unsigned field, Span *content) {
  while (message->at < message->end) {
    uint64_t tag = read_varint(message), size;
    switch (tag & 7) {
      case 0: read_varint(message); continue;
      case 1: size = 8; break;
      case 2: size = read_varint(message); break;
      case 5: size = 4; break;
      default: fail("MetaGraphDef", "a field of an unknown type"); return 0;
    }
    if (size > (uint64_t)(message->end - message->at)) fail("MetaGraphDef", "truncated");
    content->at = message->at;
    content->end = message->at += size;
    if (tag >> 3 == field && (tag & 7) == 2) return 1;
  }
  return 0;
}

static int equals(Span text, const char *expected) {
  size_t size = strlen(expected);
  return (size_t)(text.end - text.at) == size && memcmp(text.at, expected, size) == 0;
}

/* The value that a map, a repeated field of entries, has for a key. */
static Span look_up(Span message, unsigned map, const char *key) {
  Span entry, found;
  while (next_field(&message, map, &entry)) {
    Span rest = entry;
    if (!next_field(&rest, KEY, &found) || !equals(found, key)) continue;
    rest = entry;
    if (next_field(&rest, VALUE, &found)) return found;
  }
  fail(key, "there is nothing of this name in the MetaGraphDef");
  return message;
}

/* The tensor "operation:index" that a signature calls `name`. */
static TF_Output find_tensor(TF_Graph *graph, Span signature, unsigned map, const char *name) {
  Span info = look_up(signature, map, name), text;
  if (!next_field(&info, NAME, &text)) fail(name, "has no tensor");
  char operation[512];
  size_t size = (size_t)(text.end - text.at);
  if (size >= sizeof operation) fail(name, "the name of its tensor is too long");
  memcpy(operation, text.at, size);
  operation[size] = 0;
  char *colon = strrchr(operation, ':');
  TF_Output output = {NULL, colon ? atoi(colon + 1) : 0};
  if (colon) *colon = 0;
  output.oper = TF_GraphOperationByName(graph, operation);
  if (!output.oper) fail(operation, "the graph has no such operation");
  return output;
}

static char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(path, "cannot be read");
  long length = ftell(file);
  if (length < 0) fail(path, "cannot be read");
  rewind(file);
  char *content = malloc(length ? (size_t)length : 1);
  if (!content || fread(content, 1, (size_t)length, file) != (size_t)length) {
    fail(path, "cannot be read");
  }
  fclose(file);
  *size = (size_t)length;
  return content;
}

static TF_Tensor *make_string(const char *content, size_t size) {
  int64_t one = 1;
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &one, 1, sizeof(TF_TString));
  TF_TString *string = TF_TensorData(tensor);
  TF_StringInit(string);
  TF_StringCopy(string, content, size);
  return tensor;
}

static TF_Tensor *make_floats(const int64_t *dimensions, int rank, const void *values, size_t size) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_FLOAT, dimensions, rank, size);
  memcpy(TF_TensorData(tensor), values, size);
  return tensor;
}

/* The tensor that the text behind NAME= stands for. */
static TF_Tensor *make_tensor(char *text) {
  size_t size;
  char *colon = strchr(text, ':');
  if (*text == '@') {
    char *content = read_file(text + 1, &size);
    TF_Tensor *tensor = make_string(content, size);
    free(content);
    return tensor;
  }
  if (!colon) {
    int64_t one = 1;
    float value = strtof(text, NULL);
    return make_floats(&one, 1, &value, sizeof value);
  }
  int64_t dimensions[MOST_DIMENSIONS];
  size_t needed = sizeof(float);
  int rank = 0;
  for (char *at = text; at < colon && rank < MOST_DIMENSIONS; rank++) {
    dimensions[rank] = strtoll(at, &at, 10);
    needed *= (size_t)dimensions[rank];
    at++;
  }
  char *content = read_file(colon + 1, &size);
  if (size != needed) fail(colon + 1, "is not as large as its dimensions say");
  TF_Tensor *tensor = make_floats(dimensions, rank, content, size);
  free(content);
  return tensor;
}

static void write_file(const char *path, const TF_Tensor *tensor) {
  const void *content = TF_TensorData(tensor);
  size_t size = TF_TensorByteSize(tensor);
  if (TF_TensorType(tensor) == TF_STRING) {
    const TF_TString *string = content;
    content = TF_StringGetDataPointer(string);
    size = TF_StringGetSize(string);
  }
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(content, 1, size, file) != size || fclose(file)) {
    fail(path, "cannot be written");
  }
}

int main(int count, char **arguments) {
  if (count < 6 || count - 5 > MOST_INPUTS) {
    fail(arguments[0], "usage: run_signature FOLDER SIGNATURE OUTPUT RESULT INPUT...");
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Buffer *meta_graph = TF_NewBuffer();
  const char *tag = "serve";
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], &tag, 1, graph,
                                                     meta_graph, status);
  check(status, arguments[1]);

  Span message = {meta_graph->data, (const unsigned char *)meta_graph->data + meta_graph->length};
  Span signature = look_up(message, SIGNATURE_DEF, arguments[2]);
  TF_Output output = find_tensor(graph, signature, OUTPUTS, arguments[3]);
  TF_Output inputs[MOST_INPUTS];
  TF_Tensor *values[MOST_INPUTS];
  int given = count - 5;
  for (int i = 0; i < given; i++) {
    char *text = arguments[5 + i], *equals_sign = strchr(text, '=');
    if (!equals_sign) fail(text, "must be NAME=...");
    *equals_sign = 0;
    inputs[i] = find_tensor(graph, signature, INPUTS, text);
    values[i] = make_tensor(equals_sign + 1);
  }

  TF_Tensor *result = NULL;
  TF_SessionRun(session, NULL, inputs, values, given, &output, &result, 1, NULL, 0, NULL, status);
  check(status, arguments[2]);
  write_file(arguments[4], result);

  TF_DeleteTensor(result);
  for (int i = 0; i < given; i++) TF_DeleteTensor(values[i]);
  TF_CloseSession(session, status);
  check(status, "closing");
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteBuffer(meta_graph);
  TF_DeleteStatus(status);
  return 0;
}
