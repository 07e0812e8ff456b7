#include "flux_shape.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"

/* A safetensors header in the making; every tensor is bf16. */
typedef struct header {
    buffer text;
    long long bytes;
} header;

static void add(header *h, const char *shape, long long count, const char *format, ...) __attribute__((format(printf, 4, 5)));

static void add(header *h, const char *shape, long long count, const char *format, ...) {
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    buffer_printf(&h->text, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]}", h->text.size == 0 ? "{" : ",",
                  name, shape, h->bytes, h->bytes + 2 * count);
    h->bytes += 2 * count;
}

static void vector(header *h, const char *name, long long size) {
    char shape[32];
    snprintf(shape, sizeof shape, "%lld", size);
    add(h, shape, size, "%s", name);
}

static void matrix(header *h, const char *name, long long out, long long in) {
    char shape[64];
    snprintf(shape, sizeof shape, "%lld,%lld", out, in);
    add(h, shape, out * in, "%s", name);
}

static void linear(header *h, const char *name, long long out, long long in) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    matrix(h, full, out, in);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(h, full, out);
}

static void norm(header *h, const char *name, long long size) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    vector(h, full, size);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(h, full, size);
}

static void conv(header *h, const char *name, long long out, long long in, int kernel) {
    char full[160], shape[64];
    snprintf(full, sizeof full, "%s.weight", name);
    snprintf(shape, sizeof shape, "%lld,%lld,%d,%d", out, in, kernel, kernel);
    add(h, shape, out * in * kernel * kernel, "%s", full);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(h, full, out);
}

#define NAME(...) (snprintf(name, sizeof name, __VA_ARGS__), name)

static void transformer(header *h) {
    enum { N = 3072 };
    char name[128];
    linear(h, "x_embedder", N, 64);
    linear(h, "context_embedder", N, 4096);
    static const char *const embedders[] = {"timestep", "guidance", "text"};
    for (int i = 0; i < 3; i++) {
        linear(h, NAME("time_text_embed.%s_embedder.linear_1", embedders[i]), N, i == 2 ? 768 : 256);
        linear(h, NAME("time_text_embed.%s_embedder.linear_2", embedders[i]), N, N);
    }
    for (int i = 0; i < 19; i++) {
        static const char *const square[] = {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"};
        static const char *const norms[] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
        for (int k = 0; k < 8; k++) linear(h, NAME("transformer_blocks.%d.attn.%s", i, square[k]), N, N);
        for (int k = 0; k < 4; k++) vector(h, NAME("transformer_blocks.%d.attn.%s.weight", i, norms[k]), 128);
        linear(h, NAME("transformer_blocks.%d.norm1.linear", i), 6 * N, N);
        linear(h, NAME("transformer_blocks.%d.norm1_context.linear", i), 6 * N, N);
        for (int k = 0; k < 2; k++) {
            const char *ff = k == 0 ? "ff" : "ff_context";
            linear(h, NAME("transformer_blocks.%d.%s.net.0.proj", i, ff), 4 * N, N);
            linear(h, NAME("transformer_blocks.%d.%s.net.2", i, ff), N, 4 * N);
        }
    }
    for (int i = 0; i < 38; i++) {
        static const char *const square[] = {"to_q", "to_k", "to_v"};
        for (int k = 0; k < 3; k++) linear(h, NAME("single_transformer_blocks.%d.attn.%s", i, square[k]), N, N);
        vector(h, NAME("single_transformer_blocks.%d.attn.norm_q.weight", i), 128);
        vector(h, NAME("single_transformer_blocks.%d.attn.norm_k.weight", i), 128);
        linear(h, NAME("single_transformer_blocks.%d.norm.linear", i), 3 * N, N);
        linear(h, NAME("single_transformer_blocks.%d.proj_mlp", i), 4 * N, N);
        linear(h, NAME("single_transformer_blocks.%d.proj_out", i), N, 5 * N);
    }
    linear(h, "norm_out.linear", 2 * N, N);
    linear(h, "proj_out", 64, N);
}

static void clip(header *h) {
    enum { N = 768 };
    char name[128];
    matrix(h, "text_model.embeddings.token_embedding.weight", 49408, N);
    matrix(h, "text_model.embeddings.position_embedding.weight", 77, N);
    for (int i = 0; i < 12; i++) {
        static const char *const square[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
        for (int k = 0; k < 4; k++) linear(h, NAME("text_model.encoder.layers.%d.self_attn.%s", i, square[k]), N, N);
        linear(h, NAME("text_model.encoder.layers.%d.mlp.fc1", i), 4 * N, N);
        linear(h, NAME("text_model.encoder.layers.%d.mlp.fc2", i), N, 4 * N);
        norm(h, NAME("text_model.encoder.layers.%d.layer_norm1", i), N);
        norm(h, NAME("text_model.encoder.layers.%d.layer_norm2", i), N);
    }
    norm(h, "text_model.final_layer_norm", N);
}

static void t5(header *h) {
    enum { N = 4096, FF = 10240 };
    char name[128];
    matrix(h, "shared.weight", 32128, N);
    matrix(h, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 32, 64);
    for (int i = 0; i < 24; i++) {
        static const char *const square[] = {"q", "k", "v", "o"};
        for (int k = 0; k < 4; k++) matrix(h, NAME("encoder.block.%d.layer.0.SelfAttention.%s.weight", i, square[k]), N, N);
        vector(h, NAME("encoder.block.%d.layer.0.layer_norm.weight", i), N);
        vector(h, NAME("encoder.block.%d.layer.1.layer_norm.weight", i), N);
        matrix(h, NAME("encoder.block.%d.layer.1.DenseReluDense.wi_0.weight", i), FF, N);
        matrix(h, NAME("encoder.block.%d.layer.1.DenseReluDense.wi_1.weight", i), FF, N);
        matrix(h, NAME("encoder.block.%d.layer.1.DenseReluDense.wo.weight", i), N, FF);
    }
    vector(h, "encoder.final_layer_norm.weight", N);
}

static void resnet(header *h, const char *block, long long out, long long in) {
    char name[128];
    norm(h, NAME("%s.norm1", block), in);
    conv(h, NAME("%s.conv1", block), out, in, 3);
    norm(h, NAME("%s.norm2", block), out);
    conv(h, NAME("%s.conv2", block), out, out, 3);
    if (in != out) conv(h, NAME("%s.conv_shortcut", block), out, in, 1);
}

static void vae(header *h) {
    static const int channels[] = {512, 512, 256, 128};
    char name[128];
    conv(h, "decoder.conv_in", 512, 16, 3);
    resnet(h, "decoder.mid_block.resnets.0", 512, 512);
    resnet(h, "decoder.mid_block.resnets.1", 512, 512);
    norm(h, "decoder.mid_block.attentions.0.group_norm", 512);
    static const char *const square[] = {"to_q", "to_k", "to_v", "to_out.0"};
    for (int k = 0; k < 4; k++) linear(h, NAME("decoder.mid_block.attentions.0.%s", square[k]), 512, 512);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++)
            resnet(h, NAME("decoder.up_blocks.%d.resnets.%d", i, k), channels[i], k == 0 && i > 0 ? channels[i - 1] : channels[i]);
        if (i < 3) conv(h, NAME("decoder.up_blocks.%d.upsamplers.0.conv", i), channels[i], channels[i], 3);
    }
    norm(h, "decoder.conv_norm_out", 128);
    conv(h, "decoder.conv_out", 3, 128, 3);
}

static int write_text(const char *folder, const char *name, const buffer *text) {
    char path[1024];
    error e = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *strrchr(path, '/') = '\0';
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return buffer_ok(text) && file_replace(path, text->data, text->size, &e);
}

static int write_words(const char *folder, const char *name, const char *words) {
    buffer b = {0};
    buffer_append_text(&b, words);
    int ok = write_text(folder, name, &b);
    buffer_free(&b);
    return ok;
}

/* The header, and behind it a hole as large as the weights. */
static int write_weights(const char *folder, const char *name, void (*fill)(header *)) {
    header h = {0};
    char path[1024];
    fill(&h);
    buffer_append_byte(&h.text, '}');
    while (h.text.size % 8 != 0) buffer_append_byte(&h.text, ' ');
    uint64_t size = h.text.size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int ok = fd >= 0 && buffer_ok(&h.text) && write(fd, &size, 8) == 8 && write(fd, h.text.data, size) == (ssize_t)size &&
             ftruncate(fd, (off_t)(8 + (long long)size + h.bytes)) == 0;
    if (fd >= 0) close(fd);
    buffer_free(&h.text);
    return ok;
}

/* CLIP's published merges, and the vocabulary that goes with them: the byte alphabet, the same at the end of words, and each merge. */
static int write_clip_tokenizer(const char *folder) {
    char path[1024], line[512];
    snprintf(path, sizeof path, "%s/tokenizers/clip/merges.txt", getenv("IMAGINED_TEST_DATA"));
    FILE *f = fopen(path, "r");
    buffer merges = {0}, vocabulary = {0};
    int id = 0;
    if (f == NULL) return 0;
    buffer_append_byte(&vocabulary, '{');
    for (int end = 0; end < 2; end++)
        for (int byte = 0; byte < 256; byte++) { /* GPT-2's visible characters */
            int visible = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE, rank = 0;
            for (int i = 0; i < byte; i++) rank += !((i >= '!' && i <= '~') || (i >= 0xA1 && i <= 0xAC) || i >= 0xAE);
            int c = visible ? byte : 0x100 + rank;
            const char *escape = c == '"' || c == '\\' ? "\\" : "";
            if (c < 0x80) buffer_printf(&vocabulary, "%s\"%s%c%s\":%d", id > 0 ? "," : "", escape, c, end ? "</w>" : "", id);
            else buffer_printf(&vocabulary, "%s\"%c%c%s\":%d", id > 0 ? "," : "", 0xC0 | c >> 6, 0x80 | (c & 0x3F), end ? "</w>" : "", id);
            id++;
        }
    while (fgets(line, sizeof line, f) != NULL) {
        buffer_append_text(&merges, line);
        char *space = strchr(line, ' ');
        if (strncmp(line, "#version", 8) == 0 || space == NULL) continue;
        line[strcspn(line, "\r\n")] = '\0';
        buffer_append_text(&vocabulary, ",\"");
        for (const char *c = line; *c != '\0'; c++) {
            if (*c == ' ') continue;
            if (*c == '"' || *c == '\\') buffer_append_byte(&vocabulary, '\\');
            buffer_append_byte(&vocabulary, *c);
        }
        buffer_printf(&vocabulary, "\":%d", id++);
    }
    fclose(f);
    buffer_printf(&vocabulary, ",\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", id, id + 1);
    int ok = write_text(folder, "tokenizer/merges.txt", &merges) && write_text(folder, "tokenizer/vocab.json", &vocabulary);
    buffer_free(&merges);
    buffer_free(&vocabulary);
    return ok;
}

/* As many pieces as T5's, of a few letters each. */
static int write_t5_tokenizer(const char *folder) {
    buffer b = {0};
    buffer_append_text(&b, "{\"normalizer\":null,"
                           "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\"},"
                           "\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0]");
    for (int i = 0; i < 32000; i++) {
        char piece[8] = "";
        int n = 0;
        for (int rest = i + 1; rest > 0; rest /= 26) piece[n++] = (char)('a' + rest % 26);
        buffer_printf(&b, ",[\"\xE2\x96\x81%s\",%d.25]", piece, -i / 1000);
    }
    buffer_append_text(&b, "]}}");
    int ok = write_text(folder, "tokenizer_2/tokenizer.json", &b);
    buffer_free(&b);
    return ok;
}

int flux_shape_write(const char *folder) {
    return write_words(folder, "model_index.json", "{\"_class_name\":\"FluxPipeline\"}") &&
           write_words(folder, "scheduler/scheduler_config.json", "{\"shift\":3.0,\"use_dynamic_shifting\":true}") &&
           write_words(folder, "transformer/config.json",
                       "{\"guidance_embeds\":true,\"num_layers\":19,\"num_single_layers\":38,\"in_channels\":64}") &&
           write_words(
               folder, "text_encoder/config.json",
               "{\"hidden_size\":768,\"intermediate_size\":3072,\"num_attention_heads\":12,\"num_hidden_layers\":12,\"vocab_size\":49408,"
               "\"max_position_embeddings\":77,\"eos_token_id\":2}") &&
           write_words(folder, "text_encoder_2/config.json",
                       "{\"d_model\":4096,\"d_ff\":10240,\"d_kv\":64,\"num_heads\":64,\"num_layers\":24,\"vocab_size\":32128,"
                       "\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu_new\",\"is_gated_act\":true}") &&
           write_words(folder, "vae/config.json",
                       "{\"block_out_channels\":[128,256,512,512],\"latent_channels\":16,\"layers_per_block\":2,\"norm_num_groups\":32,"
                       "\"scaling_factor\":0.3611,\"shift_factor\":0.1159,\"use_post_quant_conv\":false}") &&
           write_clip_tokenizer(folder) && write_t5_tokenizer(folder) &&
           write_weights(folder, "transformer/diffusion_pytorch_model.safetensors", transformer) &&
           write_weights(folder, "text_encoder/model.safetensors", clip) && write_weights(folder, "text_encoder_2/model.safetensors", t5) &&
           write_weights(folder, "vae/diffusion_pytorch_model.safetensors", vae);
}
