/* A function server for qemu-hexagon: reads calls from standard input, runs them, writes replies.
 *
 * It has no C library. The protocol is described in docs/hexagon.md; its other end is
 * simulators/hvx/qemu.py. PROTOCOL_VERSION is sent first, and the client refuses any other. */
#include "server.h"

#define PROTOCOL_MAGIC 0x56585648u /* "HVXV" */
#define PROTOCOL_VERSION 2u
#define ARENA_BYTES (1u << 30)
#define MAX_TENSORS 16
#define MAX_DIMENSIONS 8
#define MAX_RESIDENTS 8192
#define ALIGNMENT 128u /* one HVX vector */
#define GUARD 128u     /* bytes of poison on either side of a tensor */
#define POISON 0xA5
#define PARALLEL_TASKS 4
#define MAX_TASKS 64
#define ERROR_BYTES 2048u

enum { REQUEST_CALL = 1, REQUEST_UPLOAD = 2, REQUEST_DOWNLOAD = 3, REQUEST_RELEASE = 4, REQUEST_TASK_ORDER = 5 };
enum { STATUS_OK = 0, STATUS_FUNCTION_ERROR = 1, STATUS_OUT_OF_BOUNDS = 2 };
enum { FLAG_SENT = 1, FLAG_RETURNED = 2, FLAG_RESIDENT = 4 };
enum { EXIT_PROTOCOL = 70, EXIT_CHANNEL = 71, EXIT_NO_MEMORY = 72, EXIT_HANG = 73 };
/* Words of siginfo_t, and of ucontext_t: 6 of its head, then r0 to r31, sa0, lc0, sa1, lc1, m0, m1, usr,
 * p3:0, gp, ugp, pc in QEMU 7.2; QEMU 10 has the predicates elsewhere, so that pc is where ugp was. */
enum { INFORMATION_ADDRESS = 3, CONTEXT_UGP_OR_PC = 6 + 41, CONTEXT_PC_OR_CAUSE };
enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT_GROUP = 94, SYS_MMAP2 = 222, SYS_RT_SIGACTION = 134 };

/* ---- the operating system ---- */

static i32 system_call(i32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
  register i32 r6 __asm__("r6") = number;
  register u32 r0 __asm__("r0") = a;
  register u32 r1 __asm__("r1") = b;
  register u32 r2 __asm__("r2") = c;
  register u32 r3 __asm__("r3") = d;
  register u32 r4 __asm__("r4") = e;
  register u32 r5 __asm__("r5") = f;
  __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r6), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
  return (i32)r0;
}

static void leave(i32 status) {
  for (;;) system_call(SYS_EXIT_GROUP, (u32)status, 0, 0, 0, 0, 0);
}

/* 0 at the end of the input before the first byte; anything else that is short ends the process. */
static i32 receive(void *to, u32 count) {
  u32 done = 0;
  while (done < count) {
    i32 got = system_call(SYS_READ, 0, (u32)((u8 *)to + done), count - done, 0, 0, 0);
    if (got == 0 && done == 0) return 0;
    if (got <= 0) leave(EXIT_CHANNEL);
    done += (u32)got;
  }
  return 1;
}

static void receive_all(void *to, u32 count) {
  if (count != 0 && !receive(to, count)) leave(EXIT_CHANNEL);
}

static void send_all(const void *from, u32 count) {
  u32 done = 0;
  while (done < count) {
    i32 put = system_call(SYS_WRITE, 1, (u32)((const u8 *)from + done), count - done, 0, 0, 0);
    if (put <= 0) leave(EXIT_CHANNEL);
    done += (u32)put;
  }
}

/* ---- what compilers expect of a C library ---- */

typedef i32 vector __attribute__((vector_size(128), aligned(1), may_alias)); /* at any address */

void *memset(void *to, int value, u32 count) {
  u8 *byte = to;
  i32 word = (i32)((u8)value * 0x01010101u);
  vector words = (vector){0} + word;
  for (; count >= sizeof words; count -= sizeof words, byte += sizeof words) *(vector *)byte = words;
  while (count-- != 0) *byte++ = (u8)value;
  return to;
}

void *memcpy(void *to, const void *from, u32 count) {
  u8 *target = to;
  const u8 *source = from;
  for (; count >= sizeof(vector); count -= sizeof(vector), target += sizeof(vector), source += sizeof(vector))
    *(vector *)target = *(const vector *)source;
  while (count-- != 0) *target++ = *source++;
  return to;
}

void *memmove(void *to, const void *from, u32 count) {
  u8 *out = to;
  const u8 *in = from;
  if (out <= in || out >= in + count) return memcpy(to, from, count);
  while (count-- != 0) out[count] = in[count];
  return to;
}

void *__hexagon_memcpy_likely_aligned_min32bytes_mult8bytes(void *to, const void *from, u32 count) {
  return memcpy(to, from, count);
}

static u32 text_length(const char *text) {
  u32 length = 0;
  while (text[length] != 0) length++;
  return length;
}

/* Division of 32-bit integers, which Hexagon has no instruction for; parallel loops divide their extents.
 * The quotient and remainder of zero and of -2^31 / -1 are as undefined as in C. */
static u32 divide(u32 number, u32 by, u32 *remainder) {
  u32 quotient = 0, rest = 0;
  for (i32 bit = 31 - __builtin_clz(number | 1); bit >= 0; bit--) {
    rest = rest << 1 | (number >> bit & 1);
    quotient <<= 1;
    if (rest >= by) rest -= by, quotient |= 1;
  }
  *remainder = rest;
  return quotient;
}

static u32 magnitude(i32 number) { return number < 0 ? 0u - (u32)number : (u32)number; }

u32 __hexagon_udivsi3(u32 number, u32 by) {
  u32 rest;
  return divide(number, by, &rest);
}

u32 __hexagon_umodsi3(u32 number, u32 by) {
  u32 rest;
  divide(number, by, &rest);
  return rest;
}

i32 __hexagon_divsi3(i32 number, i32 by) {
  u32 quotient = __hexagon_udivsi3(magnitude(number), magnitude(by));
  return (i32)((number < 0) != (by < 0) ? 0u - quotient : quotient);
}

i32 __hexagon_modsi3(i32 number, i32 by) {
  u32 rest = __hexagon_umodsi3(magnitude(number), magnitude(by));
  return (i32)(number < 0 ? 0u - rest : rest);
}

/* ---- counters ---- */

typedef struct {
  u32 packets, instructions, hvx_instructions;
} counters;

/* QEMU's own counters, the control registers c20, c21 and c22, which assemblers do not name:
 * the words are r0 = c20, r1 = c21, r2 = c22, each in a packet of its own. */
static inline __attribute__((always_inline)) counters read_counters(void) {
  register u32 r0 __asm__("r0");
  register u32 r1 __asm__("r1");
  register u32 r2 __asm__("r2");
  __asm__ volatile(".word 0x6a14c000\n.word 0x6a15c001\n.word 0x6a16c002" : "=r"(r0), "=r"(r1), "=r"(r2)::"memory");
  return (counters){r0, r1, r2};
}

static counters difference(counters after, counters before) {
  return (counters){after.packets - before.packets, after.instructions - before.instructions,
                    after.hvx_instructions - before.hvx_instructions};
}

static counters sum(counters a, counters b) {
  return (counters){a.packets + b.packets, a.instructions + b.instructions, a.hvx_instructions + b.hvx_instructions};
}

/* What the server itself executed during the call: poisoning workspaces is no work of the function. */
static counters spent_by_server;

/* ---- memory: one arena, emptied before each call but for the resident tensors at its end ---- */

static u8 *arena;
static u32 arena_used, arena_end = ARENA_BYTES;

static void empty_arena(void) {
  memset(arena, POISON, GUARD);
  arena_used = GUARD;
}

/* A poisoned block, 128-byte aligned, with a poisoned guard behind it, which is also the one before the
 * next block; null where the arena is full. */
static u8 *allocate(u64 count) {
  u64 rounded = (count + ALIGNMENT - 1) & ~(u64)(ALIGNMENT - 1);
  if (rounded + GUARD > arena_end - arena_used) return 0;
  u8 *block = arena + arena_used;
  memset(block, POISON, (u32)rounded + GUARD);
  arena_used += (u32)rounded + GUARD;
  return block;
}

typedef struct {
  u8 *data;
  u32 bytes;
} resident;

static resident residents[MAX_RESIDENTS];
static u32 resident_count;

/* A poisoned block that stays until all are released, with guards on both sides; null where there is no room. */
static resident *make_resident(u32 bytes) {
  u64 rounded = ((u64)bytes + ALIGNMENT - 1) & ~(u64)(ALIGNMENT - 1);
  if (resident_count == MAX_RESIDENTS || rounded + 3 * GUARD > arena_end) return 0;
  arena_end -= (u32)rounded + 2 * GUARD;
  memset(arena + arena_end, POISON, (u32)rounded + 2 * GUARD);
  resident *made = &residents[resident_count++];
  *made = (resident){arena + arena_end + GUARD, bytes};
  return made;
}

static resident *find_resident(u32 handle) {
  if (handle >= resident_count) leave(EXIT_PROTOCOL);
  return &residents[handle];
}

static void restore_guards(u8 *block, u32 count) {
  u32 rounded = (count + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
  memset(block - GUARD, POISON, GUARD);
  memset(block + count, POISON, rounded - count + GUARD);
}

static void release_residents(void) {
  resident_count = 0;
  arena_end = ARENA_BYTES;
}

static i32 guards_hold(const u8 *block, u32 count) {
  const u8 *behind_end = block + ((count + ALIGNMENT - 1) & ~(ALIGNMENT - 1)) + GUARD;
  for (const u8 *byte = block - GUARD; byte < block; byte++)
    if (*byte != POISON) return 0;
  for (const u8 *byte = block + count; byte < behind_end; byte++)
    if (*byte != POISON) return 0;
  return 1;
}

/* ---- what compiled functions expect of TVM's runtime ---- */

static char error_text[ERROR_BYTES];
static u32 error_length;

static void append_error(const char *text) {
  u32 count = text_length(text);
  if (count > ERROR_BYTES - error_length) count = ERROR_BYTES - error_length;
  memcpy(error_text + error_length, text, count);
  error_length += count;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, i32 count) {
  error_length = 0;
  append_error(kind);
  append_error(": ");
  for (i32 i = 0; i < count; i++)
    if (parts[i] != 0) append_error(parts[i]);
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

static void *allocate_workspace(i32 type, i32 id, u64 count, i32 code_hint, i32 bits_hint) {
  (void)type, (void)id, (void)code_hint, (void)bits_hint;
  counters before = read_counters();
  void *block = allocate(count);
  if (block == 0) {
    error_length = 0;
    append_error("MemoryError: the workspace does not fit into what is left of the arena");
  }
  spent_by_server = sum(spent_by_server, difference(read_counters(), before));
  return block;
}

/* Workspaces are given back with the whole arena, after the call. */
static i32 free_workspace(i32 type, i32 id, void *block) {
  (void)type, (void)id, (void)block;
  return 0;
}

typedef struct {
  void *sync_handle;
  i32 num_task;
} parallel_environment;

typedef i32 parallel_task(i32 task, parallel_environment *environment, void *closure);

static u32 task_seed; /* 0: the last task first */

static u32 next_random(void) {
  static u32 state;
  if (state == 0) state = task_seed;
  state ^= state << 13, state ^= state >> 17, state ^= state << 5; /* Marsaglia's xorshift */
  return state;
}

/* One after the other, in an order that is not theirs: a loop that only works in order gives wrong results. */
static i32 launch_parallel(parallel_task *run, void *closure, i32 tasks) {
  i32 count = tasks > 0 ? tasks : PARALLEL_TASKS;
  if (count > MAX_TASKS) count = MAX_TASKS;
  parallel_environment environment = {0, count};
  i32 order[MAX_TASKS];
  for (i32 i = 0; i < count; i++) order[i] = count - 1 - i;
  for (i32 i = task_seed != 0 ? count - 1 : 0; i > 0; i--) {
    i32 other = (i32)(next_random() % (u32)(i + 1)), kept = order[i];
    order[i] = order[other], order[other] = kept;
  }
  for (i32 i = 0; i < count; i++) {
    i32 status = run(order[i], &environment, closure);
    if (status != 0) return status;
  }
  return 0;
}

/* TVM emits these pointers as variables, in objects that use them, for the loader to fill. */
extern void *(*__TVMBackendAllocWorkspace)(i32, i32, u64, i32, i32) __attribute__((weak));
extern i32 (*__TVMBackendFreeWorkspace)(i32, i32, void *) __attribute__((weak));
extern i32 (*__TVMBackendParallelLaunch)(parallel_task *, void *, i32) __attribute__((weak));

static void fill_runtime_pointers(void) {
  if (&__TVMBackendAllocWorkspace != 0) __TVMBackendAllocWorkspace = allocate_workspace;
  if (&__TVMBackendFreeWorkspace != 0) __TVMBackendFreeWorkspace = free_workspace;
  if (&__TVMBackendParallelLaunch != 0) __TVMBackendParallelLaunch = launch_parallel;
}

/* ---- last words: what a signal that ends the guest leaves on standard error ---- */

static const char *running = "the server"; /* the function that is being executed */

static void complain(const char *text) { system_call(SYS_WRITE, 2, (u32)text, text_length(text), 0, 0, 0); }

static void complain_in_hexadecimal(u32 value) {
  char digits[11] = "0x";
  for (i32 i = 0; i < 8; i++) digits[2 + i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
  complain(digits);
}

/* Nothing here sets ugp, the thread pointer, so it is 0. */
static u32 program_counter(const u32 *context) {
  return context[CONTEXT_UGP_OR_PC] != 0 ? context[CONTEXT_UGP_OR_PC] : context[CONTEXT_PC_OR_CAUSE];
}

static void say_where(const u32 *context) {
  complain(running);
  complain(": program counter ");
  complain_in_hexadecimal(program_counter(context));
}

/* Returns to the same instruction, which then ends the process, as the handler is used once. */
static void on_fatal_signal(i32 number, const u32 *information, const u32 *context) {
  (void)number;
  say_where(context);
  complain(", address ");
  complain_in_hexadecimal(information[INFORMATION_ADDRESS]);
  complain("\n");
}

/* The client gave up waiting. */
static void on_alarm(i32 number, const u32 *information, const u32 *context) {
  (void)number, (void)information;
  say_where(context);
  complain("\n");
  leave(EXIT_HANG);
}

static void handle_signal(i32 number, void (*handler)(i32, const u32 *, const u32 *)) {
  struct {
    void (*handler)(i32, const u32 *, const u32 *);
    u32 flags;
    u64 blocked;
  } action = {handler, 0x80000004u /* once, with information */, 0};
  system_call(SYS_RT_SIGACTION, (u32)number, (u32)&action, 0, sizeof action.blocked, 0, 0);
}

static void watch_signals(void) {
  handle_signal(4 /* illegal instruction */, on_fatal_signal);
  handle_signal(7 /* bus error */, on_fatal_signal);
  handle_signal(11 /* segmentation fault */, on_fatal_signal);
  handle_signal(14 /* alarm */, on_alarm);
}

/* ---- one call ---- */

typedef struct {
  u32 type; /* code | bits << 8 */
  u32 flags;
  u32 bytes; /* of a resident tensor its handle, until the call is read */
  u32 ndim;
} tensor_header;

static tensor_header headers[MAX_TENSORS];
static tensor tensors[MAX_TENSORS];
static i64 shapes[MAX_TENSORS][MAX_DIMENSIONS];
static i64 strides[MAX_TENSORS][MAX_DIMENSIONS];
static any arguments[MAX_TENSORS];

static void receive_tensor_header(u32 index) {
  tensor_header *header = &headers[index];
  receive_all(header, sizeof *header);
  if (header->ndim == 0 || header->ndim > MAX_DIMENSIONS) leave(EXIT_PROTOCOL);
  receive_all(shapes[index], header->ndim * sizeof(i64));
  i64 stride = 1;
  for (i32 axis = (i32)header->ndim - 1; axis >= 0; axis--) {
    strides[index][axis] = stride;
    stride *= shapes[index][axis];
  }
  tensors[index] = (tensor){
      .where = {1, 0},
      .ndim = (i32)header->ndim,
      .type = {(u8)header->type, (u8)(header->type >> 8), 1},
      .shape = shapes[index],
      .strides = strides[index],
  };
  arguments[index] = (any){.type_index = 7, .value.tensor = &tensors[index]};
}

static void reply(i32 status, counters spent, u32 count) {
  u32 words[5] = {(u32)status, spent.packets, spent.instructions, spent.hvx_instructions, error_length};
  send_all(words, sizeof words);
  send_all(error_text, error_length);
  if (status != STATUS_OK) return;
  for (u32 i = 0; i < count; i++)
    if ((headers[i].flags & (FLAG_RETURNED | FLAG_RESIDENT)) == FLAG_RETURNED) send_all(tensors[i].data, headers[i].bytes);
}

static void serve_call(u32 function, u32 count) {
  if (function >= function_count || count > MAX_TENSORS) leave(EXIT_PROTOCOL);
  empty_arena();
  error_length = 0;
  for (u32 i = 0; i < count; i++) receive_tensor_header(i);
  for (u32 i = 0; i < count; i++) {
    if (headers[i].flags & FLAG_RESIDENT) {
      const resident *kept = find_resident(headers[i].bytes);
      tensors[i].data = kept->data;
      headers[i].bytes = kept->bytes;
      if (headers[i].flags & FLAG_RETURNED) memset(kept->data, POISON, kept->bytes);
      continue;
    }
    tensors[i].data = allocate(headers[i].bytes);
    if (tensors[i].data == 0) leave(EXIT_NO_MEMORY); /* the client knows the arena and does not ask */
    if (headers[i].flags & FLAG_SENT) receive_all(tensors[i].data, headers[i].bytes);
  }

  any result = {0};
  running = function_table[function].name;
  spent_by_server = (counters){0, 0, 0};
  counters before = read_counters();
  i32 failed = function_table[function].call(0, arguments, (i32)count, &result);
  counters after = read_counters();
  running = "the server";
  counters spent = difference(difference(after, before), spent_by_server);

  i32 status = STATUS_OK;
  if (failed != 0) {
    status = STATUS_FUNCTION_ERROR;
    if (error_length == 0) append_error("the function returned an error without a message");
  } else {
    for (u32 i = 0; i < count; i++)
      if (!guards_hold(tensors[i].data, headers[i].bytes)) {
        const char number[3] = {(char)('0' + i / 10), (char)('0' + i % 10), 0};
        status = STATUS_OUT_OF_BOUNDS;
        append_error(error_length == 0 ? "wrote outside argument " : ", ");
        append_error(i < 10 ? number + 1 : number);
        if (headers[i].flags & FLAG_RESIDENT) restore_guards(tensors[i].data, headers[i].bytes);
      }
  }
  reply(status, spent, count);
}

/* ---- the other requests ---- */

static void serve_upload(u32 bytes, u32 sent) {
  resident *made = make_resident(bytes);
  if (made == 0) leave(EXIT_NO_MEMORY); /* the client knows the arena and does not ask */
  if (sent) receive_all(made->data, bytes);
  u32 handle = resident_count - 1;
  send_all(&handle, sizeof handle);
}

static void serve_download(u32 handle) {
  const resident *kept = find_resident(handle);
  send_all(kept->data, kept->bytes);
}

static void serve_request(u32 kind, u32 first, u32 second) {
  switch (kind) {
    case REQUEST_CALL: serve_call(first, second); break;
    case REQUEST_UPLOAD: serve_upload(first, second); break;
    case REQUEST_DOWNLOAD: serve_download(first); break;
    case REQUEST_RELEASE: release_residents(); break;
    case REQUEST_TASK_ORDER: task_seed = first; break;
    default: leave(EXIT_PROTOCOL);
  }
}

static void send_greeting(void) {
  u32 words[4] = {PROTOCOL_MAGIC, PROTOCOL_VERSION, ARENA_BYTES, function_count};
  send_all(words, sizeof words);
  for (u32 i = 0; i < function_count; i++) {
    u32 length = text_length(function_table[i].name);
    send_all(&length, sizeof length);
    send_all(function_table[i].name, length);
  }
}

/* Ends with status 0 when the client closes its end between two calls. */
void _start(void) {
  i32 mapped = system_call(SYS_MMAP2, 0, ARENA_BYTES, 3 /* read, write */,
                           0x4022 /* private, anonymous, no reserve */, (u32)-1, 0);
  if ((u32)mapped > 0xfffff000u) leave(EXIT_NO_MEMORY);
  arena = (u8 *)mapped;
  fill_runtime_pointers();
  watch_signals();
  send_greeting();
  u32 request[3];
  while (receive(request, sizeof request)) serve_request(request[0], request[1], request[2]);
  leave(0);
}
