/* How many JPEG tiles a second this machine's cores decode when nothing else is done: no Python, no lock.
 *
 *     cc -O2 -o decode_limit benchmarks/decode_limit.c -lturbojpeg -lpthread     (Debian: libturbojpeg0-dev)
 *     python -m benchmarks.reading SLIDE --list-tiles LEVEL > tiles.txt          (offset, bytes; a line each)
 *     ./decode_limit SLIDE tiles.txt THREADS
 *
 * Tiles must hold their own tables (as those that tifffile writes do). Each thread takes the next tile, reads it with
 * pread and decodes it to RGB. Prints tiles, seconds, tiles per second and megapixels per second.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <turbojpeg.h>
#include <unistd.h>

typedef struct {
    long offset, bytes;
} Tile;

static Tile *tiles;
static long count;
static atomic_long next_tile, pixels, damaged;
static int file;

static void *decode(void *unused) {
    tjhandle handle = tjInitDecompress();
    unsigned char *data = NULL, *out = NULL;
    size_t data_size = 0, out_size = 0;
    for (long i; (i = atomic_fetch_add(&next_tile, 1)) < count;) {
        int width, height, sampling, colours;
        if ((size_t)tiles[i].bytes > data_size) data = realloc(data, data_size = tiles[i].bytes);
        if (pread(file, data, tiles[i].bytes, tiles[i].offset) != tiles[i].bytes ||
            tjDecompressHeader3(handle, data, tiles[i].bytes, &width, &height, &sampling, &colours)) {
            atomic_fetch_add(&damaged, 1);
            continue;
        }
        size_t needed = (size_t)width * height * 3;
        if (needed > out_size) out = realloc(out, out_size = needed);
        if (tjDecompress2(handle, data, tiles[i].bytes, out, width, 0, height, TJPF_RGB, 0)) atomic_fetch_add(&damaged, 1);
        atomic_fetch_add(&pixels, (long)width * height);
    }
    tjDestroy(handle);
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "decode_limit SLIDE TILES THREADS\n"), 2;
    FILE *list = fopen(argv[2], "r");
    file = open(argv[1], O_RDONLY);
    if (!list || file < 0) return perror("decode_limit"), 2;
    long size = 0;
    for (Tile one; fscanf(list, "%ld %ld", &one.offset, &one.bytes) == 2; tiles[count++] = one)
        if (count == size) tiles = realloc(tiles, (size = 2 * size + 1024) * sizeof(Tile));
    int threads = atoi(argv[3]);
    pthread_t *running = calloc(threads, sizeof *running);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < threads; i++) pthread_create(&running[i], NULL, decode, NULL);
    for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = end.tv_sec - begin.tv_sec + 1e-9 * (end.tv_nsec - begin.tv_nsec);
    printf("%ld tiles (%ld damaged), %d threads: %.2f s, %.0f tiles/s, %.0f megapixels/s\n", count, (long)damaged, threads,
           seconds, count / seconds, pixels / seconds / 1e6);
    return 0;
}
