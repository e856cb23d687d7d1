/* The HVX instructions that the kernels use, in plain C for any CPU: what a kernel calls where it is built for
 * the device `host`. A vector is an array of 128 bytes, of 32 words; `result` overlaps no operand.
 *
 * Source: Qualcomm Hexagon V66 HVX Programmer's Reference Manual (80-N2040-44), the description of each. */

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;

enum { BYTES = 128, HALFWORDS = 64, WORDS = 32 };
#define INSTRUCTION(name) void bitexact_hvx_##name
#define EACH(i, count) for (i32 i = 0; i < (count); i++)

/* Sums of four products for each word, modulo 2^32; `u` has the vector's type, `v` that of the other operand. */
#define REDUCING_MULTIPLY(name, u_type, v_type)                                                     \
  INSTRUCTION(name)(u32 *result, const u32 *sums, const u_type *u, const v_type *v) {              \
    EACH(word, WORDS) {                                                                            \
      i32 sum = 0;                                                                                 \
      EACH(byte, 4) sum += (i32)u[4 * word + byte] * (i32)v[4 * word + byte];                      \
      result[word] = sums[word] + (u32)sum;                                                        \
    }                                                                                              \
  }
#define REDUCING_MULTIPLY_BY_SCALAR(name, v_type)                                                   \
  INSTRUCTION(name)(u32 *result, const u32 *sums, const u8 *u, u32 scalar) {                       \
    EACH(word, WORDS) {                                                                            \
      i32 sum = 0;                                                                                 \
      EACH(byte, 4) sum += (i32)u[4 * word + byte] * (i32)(v_type)(scalar >> (8 * byte));          \
      result[word] = sums[word] + (u32)sum;                                                        \
    }                                                                                              \
  }

REDUCING_MULTIPLY(vrmpyubv_acc, u8, u8)
REDUCING_MULTIPLY(vrmpybusv_acc, u8, i8)
REDUCING_MULTIPLY(vrmpybv_acc, i8, i8)
REDUCING_MULTIPLY_BY_SCALAR(vrmpyub_acc, u8)
REDUCING_MULTIPLY_BY_SCALAR(vrmpybus_acc, i8)

static i32 signed_byte(u32 scalar, i32 index) { return (i8)(scalar >> (8 * (index % 4))); }

/* Two products of unsigned bytes with signed ones for each halfword, and of halfwords with signed bytes for each
 * word; nothing saturates. */
INSTRUCTION(vdmpybus)(i16 *result, const u8 *bytes, u32 scalar) {
  EACH(i, HALFWORDS)
  result[i] = (i16)(bytes[2 * i] * signed_byte(scalar, 2 * i) + bytes[2 * i + 1] * signed_byte(scalar, 2 * i + 1));
}

INSTRUCTION(vdmpyhb_acc)(u32 *result, const u32 *sums, const i16 *halfwords, u32 scalar) {
  EACH(i, WORDS) {
    result[i] = sums[i] + (u32)(halfwords[2 * i] * signed_byte(scalar, 2 * i));
    result[i] += (u32)(halfwords[2 * i + 1] * signed_byte(scalar, 2 * i + 1));
  }
}

/* ---- words ---- */

INSTRUCTION(vaddw)(u32 *result, const u32 *a, const u32 *b) { EACH(i, WORDS) result[i] = a[i] + b[i]; }
INSTRUCTION(vsubw)(u32 *result, const u32 *a, const u32 *b) { EACH(i, WORDS) result[i] = a[i] - b[i]; }
INSTRUCTION(vmaxw)(i32 *result, const i32 *a, const i32 *b) { EACH(i, WORDS) result[i] = a[i] > b[i] ? a[i] : b[i]; }
INSTRUCTION(vminw)(i32 *result, const i32 *a, const i32 *b) { EACH(i, WORDS) result[i] = a[i] < b[i] ? a[i] : b[i]; }

/* The even halfword of a by the odd one of b, as the upper half of a word. */
INSTRUCTION(vmpyieoh)(u32 *result, const u32 *a, const u32 *b) {
  EACH(i, WORDS) result[i] = ((a[i] & 0xffff) * (b[i] >> 16)) << 16;
}

/* A word by the even halfword of another, which counts as unsigned. */
INSTRUCTION(vmpyiewuh_acc)(u32 *result, const u32 *sums, const u32 *a, const u32 *b) {
  EACH(i, WORDS) result[i] = sums[i] + a[i] * (b[i] & 0xffff);
}

/* 64 bits in a pair of vectors, the low words first. Here the product of a word by an even halfword, shifted
 * left by 16 … */
INSTRUCTION(vmpyewuh_64)(u32 *result, const i32 *a, const i32 *b) {
  EACH(i, WORDS) {
    i64 product = (i64)a[i] * (b[i] & 0xffff);
    result[i] = (u32)product << 16;
    result[WORDS + i] = (u32)(product >> 16);
  }
}

/* … and to what that left, the product by the odd halfword is added. */
INSTRUCTION(vmpyowh_64_acc)(u32 *result, const u32 *pair, const i32 *a, const i32 *b) {
  EACH(i, WORDS) {
    i64 product = (i64)a[i] * (b[i] >> 16) + (i32)pair[WORDS + i];
    result[i] = (u32)product << 16 | pair[i] >> 16;
    result[WORDS + i] = (u32)(product >> 16);
  }
}

INSTRUCTION(lo)(u32 *result, const u32 *pair) { EACH(i, WORDS) result[i] = pair[i]; }
INSTRUCTION(hi)(u32 *result, const u32 *pair) { EACH(i, WORDS) result[i] = pair[WORDS + i]; }

/* ---- narrowing ---- */

static i32 saturated(i32 value, i32 low, i32 high) { return value < low ? low : value > high ? high : value; }

INSTRUCTION(vpackwh_sat)(i16 *result, const i32 *high, const i32 *low) {
  EACH(i, WORDS) result[i] = (i16)saturated(low[i], -32768, 32767);
  EACH(i, WORDS) result[WORDS + i] = (i16)saturated(high[i], -32768, 32767);
}

INSTRUCTION(vpackhub_sat)(u8 *result, const i16 *high, const i16 *low) {
  EACH(i, HALFWORDS) result[i] = (u8)saturated(low[i], 0, 255);
  EACH(i, HALFWORDS) result[HALFWORDS + i] = (u8)saturated(high[i], 0, 255);
}

INSTRUCTION(vpackhb_sat)(i8 *result, const i16 *high, const i16 *low) {
  EACH(i, HALFWORDS) result[i] = (i8)saturated(low[i], -128, 127);
  EACH(i, HALFWORDS) result[HALFWORDS + i] = (i8)saturated(high[i], -128, 127);
}

/* ---- permutations ---- */

/* Rotates to the right, that is towards the first byte. */
INSTRUCTION(vror)(u8 *result, const u8 *bytes, u32 distance) {
  EACH(i, BYTES) result[i] = bytes[((u32)i + distance) % BYTES];
}

/* The 128 bytes of both vectors from a distance on. */
INSTRUCTION(valignb)(u8 *result, const u8 *high, const u8 *low, u32 distance) {
  EACH(i, BYTES) {
    const u32 from = (u32)i + distance % BYTES;
    result[i] = from < BYTES ? low[from] : high[from - BYTES];
  }
}

/* The bytes of the two halves take turns. */
INSTRUCTION(vshuffb)(u8 *result, const u8 *bytes) {
  EACH(i, HALFWORDS) result[2 * i] = bytes[i], result[2 * i + 1] = bytes[HALFWORDS + i];
}

static void exchange(u8 *low, u8 *high, i32 offset) {
  EACH(i, BYTES)
  if (!(i & offset)) {
    u8 kept = high[i];
    high[i] = low[i + offset];
    low[i + offset] = kept;
  }
}

static void take(u8 *result, const u8 *high, const u8 *low) {
  EACH(i, BYTES) result[i] = low[i], result[BYTES + i] = high[i];
}

INSTRUCTION(vshuffvdd)(u8 *result, const u8 *high, const u8 *low, u32 offsets) {
  take(result, high, low);
  for (i32 offset = 1; offset < BYTES; offset <<= 1)
    if (offsets & (u32)offset) exchange(result, result + BYTES, offset);
}

INSTRUCTION(vdealvdd)(u8 *result, const u8 *high, const u8 *low, u32 offsets) {
  take(result, high, low);
  for (i32 offset = BYTES / 2; offset > 0; offset >>= 1)
    if (offsets & (u32)offset) exchange(result, result + BYTES, offset);
}

/* ---- scratch memory ---- */

/* A workspace is as unknown here as it is in the guest. */
void bitexact_poison(u8 *memory, u32 bytes) {
  for (u32 i = 0; i < bytes; i++) memory[i] = 0xA5;
}
