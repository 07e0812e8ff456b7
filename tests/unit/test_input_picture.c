/* The files of a picture to begin from and of a mask, as the pipeline takes them: stretched, laid over white, cell by cell; what is none is
 * an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/input_picture.h"
#include "image/image.h"

static int file_with(const void *bytes, size_t size) {
    int fd = memfd_create("picture", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    return fd;
}

/* A picture of this colour, but for the columns from `from` on, which have `other`. */
static int picture_file(int width, int height, int channels, int from, const uint8_t colour[4], const uint8_t other[4],
                        image_format format) {
    image i;
    buffer file = {0};
    error e = {0};
    assert_true(image_new(width, height, channels, &i, &e));
    for (int p = 0; p < width * height; p++) memcpy(i.pixels + p * channels, p % width < from ? colour : other, (size_t)channels);
    if (!image_encode(&i, format, 95, NULL, &file, &e)) fail_msg("%s", e.text);
    int fd = file_with(file.data, file.size);
    buffer_free(&file);
    image_free(&i);
    return fd;
}

static void pictures_are_stretched_and_laid_over_white(void **state) {
    (void)state;
    static const uint8_t red[4] = {255, 0, 0, 255}, half[4] = {0, 0, 0, 128};
    for (int format = IMAGE_PNG; format < IMAGE_FORMATS; format++) {
        int channels = format == IMAGE_JPEG ? 3 : 4, width, height;
        int fd = picture_file(40, 20, channels, 20, red, channels == 4 ? half : red, (image_format)format);
        uint8_t *rgb;
        error e = {0};
        lseek(fd, 0, SEEK_END); /* where the file stands is nothing to go by */
        if (!input_picture_size(fd, &width, &height, &e)) fail_msg("%s", e.text);
        assert_true(width == 40 && height == 20);
        if (!input_picture_read(fd, 16, 32, &rgb, &e)) fail_msg("%s", e.text);
        for (int y = 0; y < 32; y++) {
            const uint8_t *left = rgb + (size_t)y * 16 * 3, *right = left + 15 * 3;
            assert_true(left[0] >= 250 && left[1] <= 5 && left[2] <= 5);
            if (channels == 4) assert_true(right[0] >= 125 && right[0] <= 129 && right[1] == right[0] && right[2] == right[0]);
        }
        free(rgb);
        close(fd);
    }
}

static void one_of_the_right_size_keeps_its_pixels(void **state) {
    (void)state;
    static const uint8_t a[4] = {1, 2, 3, 255}, b[4] = {250, 128, 7, 255};
    int fd = picture_file(24, 8, 3, 5, a, b, IMAGE_PNG);
    uint8_t *rgb;
    assert_true(input_picture_read(fd, 24, 8, &rgb, NULL));
    for (int p = 0; p < 24 * 8; p++) assert_memory_equal(rgb + p * 3, p % 24 < 5 ? a : b, 3);
    free(rgb);
    close(fd);
}

/* Columns 0 … 19 of 32 are painted, at a factor of 8: two whole cells, half of the third, nothing of the fourth. */
static void masks_are_shares_of_cells(void **state) {
    (void)state;
    static const uint8_t white[4] = {255, 255, 255, 255}, black[4] = {0, 0, 0, 255}, clear[4] = {0, 0, 0, 0},
                         grey[4] = {127, 127, 127, 255}, light[4] = {128, 128, 128, 128};
    static const struct {
        const uint8_t *painted, *kept;
        int channels;
        bool alpha;
        float first;
    } cases[] = {
        {white, black, 3, false, 1}, {white, grey, 3, false, 1}, {light, black, 3, false, 1},
        {white, clear, 4, false, 1}, /* by light, over black */
        {clear, white, 4, true, 1},  {clear, black, 4, true, 1}, {grey, black, 3, false, 0},
        {white, black, 3, true, 0},  {light, white, 4, true, 0}, /* less than half; without alpha nothing is transparent */
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int fd = picture_file(32, 16, cases[c].channels, 20, cases[c].painted, cases[c].kept, IMAGE_PNG);
        float *mask;
        error e = {0};
        if (!input_mask_read(fd, cases[c].alpha, 32, 16, 8, &mask, &e)) fail_msg("%s", e.text);
        const float wanted[4] = {cases[c].first, cases[c].first, cases[c].first / 2, 0};
        for (int i = 0; i < 8; i++)
            if (mask[i] != wanted[i % 4]) fail_msg("case %zu, cell %d: %g", c, i, (double)mask[i]);
        free(mask);
        if (!input_mask_read(fd, cases[c].alpha, 64, 16, 16, &mask, &e)) fail_msg("%s", e.text); /* stretched: the same cells */
        assert_true(mask[0] == cases[c].first && mask[1] == cases[c].first && mask[3] == 0);
        free(mask);
        close(fd);
    }
}

static void refused(int fd, error_code code, const char *says) {
    uint8_t *rgb;
    float *mask;
    int width, height;
    error e = {0};
    assert_false(input_picture_read(fd, 16, 16, &rgb, &e));
    assert_null(rgb);
    assert_int_equal(e.code, code);
    assert_string_equal(e.field, "image");
    if (strstr(e.text, says) == NULL || strncmp(e.text, "the picture to begin from: ", 27) != 0) fail_msg("%s", e.text);
    e = (error){0};
    assert_false(input_mask_read(fd, false, 16, 16, 8, &mask, &e));
    assert_null(mask);
    assert_int_equal(e.code, code);
    assert_string_equal(e.field, "mask");
    assert_false(input_picture_read(fd, 16, 16, &rgb, NULL));
    if (code == ERROR_TOO_LARGE || code == ERROR_UNSUPPORTED) assert_false(input_picture_size(fd, &width, &height, &e));
    close(fd);
}

static void what_is_no_picture_is_an_error(void **state) {
    (void)state;
    static const uint8_t red[4] = {255, 0, 0, 255};
    refused(file_with("", 0), ERROR_UNSUPPORTED, "neither PNG");
    refused(file_with("GIF89a", 6), ERROR_UNSUPPORTED, "neither PNG");
    int cut = picture_file(40, 20, 3, 20, red, red, IMAGE_PNG);
    assert_int_equal(ftruncate(cut, lseek(cut, 0, SEEK_END) - 20), 0);
    refused(cut, ERROR_INVALID, "");
    int large = file_with("x", 1);
    assert_int_equal(ftruncate(large, (off_t)1 << 40), 0);
    refused(large, ERROR_TOO_LARGE, "bytes");
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    refused(ends[0], ERROR_INVALID, "regular file");
    close(ends[1]);
    refused(open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ERROR_INVALID, "regular file");
    refused(open("/dev/null", O_WRONLY | O_CLOEXEC), ERROR_INVALID, "regular file");
    refused(-1, ERROR_INVALID, "regular file");
    char path[] = "/tmp/imagined-picture-XXXXXX";
    int unreadable = mkstemp(path);
    assert_int_equal(write(unreadable, "x", 1), 1);
    close(unreadable);
    refused(open(path, O_WRONLY | O_CLOEXEC), ERROR_IO, "cannot be read");
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_stretched_and_laid_over_white),
        cmocka_unit_test(one_of_the_right_size_keeps_its_pixels),
        cmocka_unit_test(masks_are_shares_of_cells),
        cmocka_unit_test(what_is_no_picture_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
