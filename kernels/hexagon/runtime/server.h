/* What compiled functions, the table of their names and the server share.
 *
 * A compiled function has the TVM FFI's packed calling convention; the layouts below are those of a
 * 32-bit Hexagon (tvm/ffi/c_api.h and dlpack.h of the pinned packages, read there). */
#ifndef BITEXACT_HEXAGON_SERVER_H
#define BITEXACT_HEXAGON_SERVER_H

typedef unsigned char u8;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

typedef struct {
  i32 device_type; /* 1: CPU */
  i32 device_id;
} device;

typedef struct {
  u8 code; /* 0 int, 1 uint, 2 float */
  u8 bits;
  unsigned short lanes;
} dtype;

typedef struct {
  void *data;
  device where;
  i32 ndim;
  dtype type;
  i64 *shape;
  i64 *strides; /* in elements */
  u64 byte_offset;
} tensor;

typedef struct {
  i32 type_index; /* 0 None, 7 tensor pointer */
  u32 zero;
  union {
    tensor *tensor;
    i64 integer;
  } value;
} any;

typedef i32 compiled_function(void *self, const any *arguments, i32 count, any *result);

typedef struct {
  const char *name;
  compiled_function *call;
} named_function;

/* Generated for each ELF: the functions it holds, in the order of their indices. */
extern const named_function function_table[];
extern const u32 function_count;

#endif
