/* SPDX-License-Identifier: BSD-3-Clause */
/* train.c - data-parallel training of a small network on Fashion-MNIST, gradients by allreduce. */
#include <sennit.h>

#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Only the products are compiled for several processors; the weights are updated by the same
 * instructions everywhere, so ranks on unlike hosts keep equal weights. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
	!defined(__SANITIZE_THREAD__)
#define HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), \
	optimize("O3")))
#else
#define HOT
#endif

/* The last input of each layer is the constant 1 (its weights are the bias); the ten classes are
 * padded to a whole vector. */
enum { PIXELS = 784, INPUTS = PIXELS + 1, HIDDEN = 128, HIDDENS = HIDDEN + 1, CLASSES = 10,
	OUTPUTS = 16, LANES = 16, ROWS = 6, SLICE = 16 * ROWS, TRAINING = 60000, TESTING = 10000,
	WEIGHTS = INPUTS * HIDDEN + HIDDENS * OUTPUTS };

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static struct settings {
	int ranks, epochs, batch, accept;
	bool compare, reversed; /* reversed: each batch is summed from its end */
	long seed;
	const char *folder;
} set = { 0, -1, 128, -1, false, false, 1, "/usr/share/datasets/fashion-mnist" };

static struct data {
	unsigned char *images, *labels;
} training, testing;

struct layer {
	size_t count; /* weights, and elements of the bucket */
	float *weights, *speed, *gradient;
	struct snt_op *op; /* sums this layer's gradient over the ranks, in place */
	bool flying;
	double alone; /* seconds that the allreduce takes when nothing else runs */
};

static struct snt_team *team;
static int rank, ranks;
static struct layer below, above; /* input to hidden, hidden to output */
static float weights[WEIGHTS]; /* of both layers, one after the other */
static uint32_t order[TRAINING];
static size_t images = TRAINING; /* so many of an epoch's are used */
static size_t room, count, batch; /* samples: there is space for, of this rank, of all ranks */
static float *inputs, *hidden, *outputs, *slopes;
static unsigned char *labels;
static double loss, blocked, alone;

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "train: %s: %s\n", what, why);
	exit(1);
}

static void must(int status, const char *what)
{
	if (status != SNT_OK)
		die(what, snt_status_sentence(status)); /* more is logged */
}

static void *reserve(size_t number, size_t size)
{
	void *memory = calloc(number, size);
	if (!memory)
		die("memory", "there is none left");
	return memory;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads one idx file, packed or not; its header must be exactly that of the data set. */
static unsigned char *read_idx(const char *name, int dimensions, unsigned number)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s.gz", set.folder, name);
	if (access(path, R_OK) != 0)
		path[strlen(path) - 3] = '\0';
	if (access(path, R_OK) != 0)
		die(path, "no such file; install the Debian package dataset-fashion-mnist, "
			  "or name its folder with --data");
	setenv("TRAIN_FILE", path, 1);
	FILE *file = popen("gzip -dcf -- \"$TRAIN_FILE\"", "r");
	unsigned char expected[16] = { 0, 0, 8, (unsigned char)dimensions, 0, 0,
		(unsigned char)(number >> 8), (unsigned char)number, 0, 0, 0, 28, 0, 0, 0, 28 };
	unsigned char header[16];
	size_t length = 4 + 4 * (size_t)dimensions;
	if (!file || fread(header, 1, length, file) != length || memcmp(header, expected, 4) != 0)
		die(path, "is no idx file of bytes with the expected number of dimensions");
	if (memcmp(header, expected, length) != 0)
		die(path, "has another size than Fashion-MNIST");
	size_t bytes = dimensions == 3 ? (size_t)number * PIXELS : number;
	unsigned char *content = reserve(bytes, 1);
	if (fread(content, 1, bytes, file) != bytes || fgetc(file) != EOF || pclose(file) != 0)
		die(path, "is shorter or longer than its header says, or damaged");
	for (size_t i = 0; dimensions == 1 && i < bytes; i++)
		if (content[i] >= CLASSES)
			die(path, "has a label above 9");
	return content;
}

/* c = a x b with a of m x k, any two strides; b of k x n without gaps; n a multiple of LANES.
 * Computes ROWS rows at a time: up to ROWS - 1 more of a are read, and of c are written. */
HOT static void multiply(size_t m, size_t n, size_t k, const float *a, size_t a_row,
	size_t a_column, const float *b, float *c, size_t c_row)
{
	for (size_t j = 0; j < n; j += LANES)
		for (size_t i = 0; i < m; i += ROWS) {
			lanes sum[ROWS] = { { 0 } };
			for (size_t x = 0; x < k; x++) {
				lanes row = *(const lanes *)(b + x * n + j);
				for (size_t r = 0; r < ROWS; r++)
					sum[r] += a[(i + r) * a_row + x * a_column] * row;
			}
			for (size_t r = 0; r < ROWS; r++)
				*(lanes *)(c + (i + r) * c_row + j) = sum[r];
		}
}

static void forward(void)
{
	multiply(count, HIDDEN, INPUTS, inputs, INPUTS, 1, below.weights, hidden,
		HIDDENS);
	for (size_t i = 0; i < count; i++) {
		float *h = hidden + i * HIDDENS;
		for (size_t j = 0; j < HIDDEN; j++)
			h[j] = h[j] > 0 ? h[j] : 0;
		h[HIDDEN] = 1;
	}
	multiply(count, OUTPUTS, HIDDENS, hidden, HIDDENS, 1, above.weights,
		outputs, OUTPUTS);
}

/* Softmax and cross-entropy: adds to the loss, turns the outputs into their slopes. */
static void outputs_to_slopes(void)
{
	float part = 1.0f / (float)batch; /* of all ranks: uneven shares weigh rightly */
	for (size_t i = 0; i < count; i++) {
		float *o = outputs + i * OUTPUTS, most = o[0], sum = 0;
		for (size_t j = 1; j < CLASSES; j++)
			most = o[j] > most ? o[j] : most;
		for (size_t j = 0; j < CLASSES; j++)
			sum += o[j] = expf(o[j] - most);
		loss -= log(fmax((double)(o[labels[i]] / sum), 1e-30));
		for (size_t j = 0; j < CLASSES; j++)
			o[j] *= part / sum;
		o[labels[i]] -= part;
	}
}

static void update(struct layer *l, float rate)
{
	for (size_t i = 0; i < l->count; i++) {
		l->speed[i] = 0.9f * l->speed[i] + l->gradient[i];
		l->weights[i] -= rate * l->speed[i];
	}
}

/* Starts, tests or waits for a layer's allreduce, and counts the time spent in there. */
static void drive(struct layer *l, int (*call)(struct snt_op *))
{
	double since = now();
	bool starting = call == snt_op_start;
	if (!starting && !l->flying)
		return;
	int status = call(l->op);
	blocked += now() - since;
	l->flying = starting || status == SNT_BUSY;
	must(status == SNT_BUSY ? SNT_OK : status, "allreduce of a gradient");
	alone += l->flying ? 0 : l->alone;
}

/* Makes a layer and its allreduce, and times that alone: all zeros stay all zeros. */
static void make_layer(struct layer *l, float *at, size_t in, size_t out, size_t used)
{
	enum { WARM = 50, TIMED = 100 };
	double since = 0;
	float reach = sqrtf(6.0f / (float)in);
	l->count = in * out;
	l->weights = at;
	l->speed = reserve(l->count, sizeof(float));
	l->gradient = snt_alloc((in + ROWS) * out * sizeof(float));
	must(l->gradient ? SNT_OK : SNT_ENOMEM, "memory of a bucket");
	for (size_t i = 0; i < in - 1; i++)
		for (size_t j = 0; j < used; j++)
			at[i * out + j] = reach * ((float)drand48() * 2 - 1);
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .in = l->gradient, .out = l->gradient,
		.count = l->count, .type = SNT_FLOAT32, .fold = SNT_SUM };
	must(snt_op_create(team, &call, &l->op), "prepare the allreduce of a gradient");
	for (int i = 0; i < WARM + TIMED; i++) {
		since = i == WARM ? now() : since;
		must(snt_op_start(l->op), "start of an allreduce");
		must(snt_op_wait(l->op), "allreduce");
	}
	l->alone = (now() - since) / TIMED;
}

static void load(const struct data *data, size_t from, size_t to)
{
	for (size_t j = 0; j < PIXELS; j++)
		inputs[to * INPUTS + j] = (float)data->images[from * PIXELS + j] *
			(1 / (255 * 0.353f)) - 0.286f / 0.353f;
	inputs[to * INPUTS + PIXELS] = 1;
	labels[to] = data->labels[from];
}

/* Loads this rank's share of the batch at @base, and keeps the lower layer's bucket moving. */
static void load_batch(size_t base)
{
	batch = images - base < (size_t)set.batch ? images - base : (size_t)set.batch;
	size_t mine = batch * (size_t)rank / (size_t)ranks;
	count = batch * (size_t)(rank + 1) / (size_t)ranks - mine;
	for (size_t i = 0; i < count; i++) {
		size_t place = set.reversed ? batch - 1 - mine - i : mine + i;
		load(&training, order[base + place], i);
		if (i % 16 == 15)
			drive(&below, snt_op_test);
	}
}

/* One step on the loaded batch; loads the batch at @next behind the last allreduce. */
static void step_on(float rate, size_t next)
{
	static float turned[OUTPUTS * HIDDEN];
	forward();
	outputs_to_slopes();
	multiply(HIDDENS, OUTPUTS, count, hidden, 1, HIDDENS, outputs,
		above.gradient, OUTPUTS);
	drive(&above, snt_op_start); /* flies during the backward pass of the layer below */
	for (size_t j = 0; j < HIDDEN; j++)
		for (size_t o = 0; o < OUTPUTS; o++)
			turned[o * HIDDEN + j] = above.weights[j * OUTPUTS + o];
	multiply(count, HIDDEN, CLASSES, outputs, OUTPUTS, 1, turned, slopes,
		HIDDEN);
	for (size_t i = 0; i < count * HIDDEN; i++)
		slopes[i] = hidden[i / HIDDEN * HIDDENS + i % HIDDEN] > 0 ? slopes[i] : 0;
	for (size_t row = 0; row < INPUTS; row += SLICE) {
		drive(&above, snt_op_test);
		multiply(INPUTS - row < SLICE ? INPUTS - row : SLICE, HIDDEN, count,
			inputs + row, 1, INPUTS, slopes,
			below.gradient + row * HIDDEN, HIDDEN);
	}
	drive(&below, snt_op_start); /* flies while the next batch is loaded */
	drive(&above, snt_op_wait);
	update(&above, rate);
	if (next < images)
		load_batch(next);
	drive(&below, snt_op_wait);
	update(&below, rate);
}

/* Percent of the test images that all ranks together name rightly. */
static double evaluate(void)
{
	int64_t right = 0;
	size_t end = (size_t)(TESTING * (rank + 1) / ranks);
	for (size_t done = (size_t)(TESTING * rank / ranks); done < end; done += count) {
		count = end - done < room ? end - done : room;
		for (size_t i = 0; i < count; i++)
			load(&testing, done + i, i);
		forward();
		for (size_t i = 0; i < count; i++) {
			const float *o = outputs + i * OUTPUTS;
			size_t best = 0;
			for (size_t j = 1; j < CLASSES; j++)
				best = o[j] > o[best] ? j : best;
			right += best == labels[i];
		}
	}
	must(snt_allreduce(team, &right, &right, 1, SNT_INT64, SNT_SUM), "sum of the hits");
	return 100.0 * (double)right / TESTING;
}

static double train_epoch(int epoch)
{
	double since = now();
	loss = blocked = alone = 0;
	for (uint32_t i = 0; i < TRAINING; i++) { /* shuffles alike on all ranks */
		uint32_t j = (uint32_t)(drand48() * (i + 1));
		order[i] = order[j];
		order[j] = i;
	}
	load_batch(0);
	for (size_t base = 0; base < images; base += (size_t)set.batch) {
		double progress = (epoch + (double)base / (double)images) / set.epochs;
		step_on((float)(0.05 * fmin(set.batch, 512) / 128 * (1 - 0.95 * progress)),
			base + (size_t)set.batch);
	}
	double took = now() - since;
	must(snt_allreduce(team, &loss, &loss, 1, SNT_FLOAT64, SNT_SUM), "sum of the losses");
	double accuracy = evaluate();
	if (rank == 0) {
		printf("epoch %d: loss %.4f, test accuracy %.2f %%, %.0f images/s", epoch + 1,
			loss / (double)images, accuracy, (double)images / took);
		printf(ranks == 1 ? "\n" : "; allreduce: %.3f s alone, %.3f s here, %.0f %% hidden\n",
			alone, blocked, 100 * fmax(0, 1 - blocked / alone));
	}
	return accuracy;
}

static bool weights_identical(void)
{
	uint64_t hash = 0xcbf29ce484222325u, *all = reserve((size_t)ranks, sizeof *all);
	bool same = true;
	for (size_t i = 0; i < sizeof weights; i++)
		hash = (hash ^ ((const unsigned char *)weights)[i]) * 0x100000001b3u;
	must(snt_allgather(team, &hash, all, 1, SNT_UINT64), "gather the hashes");
	for (int i = 1; i < ranks; i++)
		same &= all[i] == all[0];
	free(all);
	if (rank == 0)
		printf("weights %s on all %d ranks: %016llx\n", same ? "identical" : "NOT identical",
			ranks, (unsigned long long)hash);
	return same;
}

/* Trains as one rank, once in a process; the exit status, 0 or 1. */
static int train(const struct snt_team_options *options)
{
	must(snt_team_create(options, &team), "make the team");
	srand48(set.seed);
	rank = snt_team_rank(team), ranks = snt_team_size(team);
	make_layer(&below, weights, INPUTS, HIDDEN, HIDDEN);
	make_layer(&above, weights + below.count, HIDDENS, OUTPUTS, CLASSES);
	room = (size_t)(set.batch / ranks) + 1;
	inputs = reserve((room + ROWS) * INPUTS, sizeof(float));
	hidden = reserve((room + ROWS) * HIDDENS, sizeof(float));
	slopes = reserve((room + ROWS) * HIDDEN, sizeof(float));
	outputs = reserve((room + ROWS) * OUTPUTS, sizeof(float));
	labels = reserve(room, 1);
	double accuracy = 0;
	for (int epoch = 0; epoch < set.epochs; epoch++)
		accuracy = train_epoch(epoch);
	bool good = weights_identical() && accuracy >= set.accept;
	if (rank == 0 && accuracy < set.accept)
		printf("accuracy %.2f %% is below %d %%\n", accuracy, set.accept);
	snt_team_destroy(team); /* and the operations */
	snt_free(below.gradient);
	snt_free(above.gradient);
	return good ? 0 : 1;
}

static bool in_child(void)
{
	fflush(NULL);
	pid_t child = fork();
	if (child < 0)
		die("fork", "the system refused");
	return child == 0;
}

/* The caller is rank 0, and forks the others. */
static int train_forked(void)
{
	struct snt_ticket ticket;
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	must(snt_ticket_create(SNT_REACH_LOCAL, &ticket), "make a ticket");
	options.ranks = set.ranks;
	options.ticket = &ticket;
	for (options.rank = 1; options.rank < set.ranks; options.rank++)
		if (in_child())
			exit(train(&options));
	options.rank = 0;
	int bad = train(&options);
	for (int status; wait(&status) > 0;)
		bad |= status != 0;
	return bad;
}

/* The same training by 1, 2, 3 and 4 ranks, and by one that adds in the other order. */
static int compare(void)
{
	enum { RUNS = 5 };
	float(*result)[WEIGHTS] = mmap(NULL, RUNS * sizeof weights, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(result == MAP_FAILED ? SNT_ENOMEM : SNT_OK, "memory of all ranks");
	for (int run = 0, status; run < RUNS; run++) {
		set.reversed = run == RUNS - 1;
		set.ranks = set.reversed ? 1 : run + 1;
		printf("--- ranks: %d%s\n", set.ranks, set.reversed ? ", batches reversed" : "");
		if (in_child()) {
			status = train_forked();
			memcpy(result[run], weights, sizeof weights);
			exit(status);
		}
		if (wait(&status) < 0 || status != 0)
			die("--compare", "a training failed");
	}
	double most[RUNS] = { 0 };
	for (int run = 1; run < RUNS; run++)
		for (size_t i = 0; i < WEIGHTS; i++) {
			double d = fabs((double)result[run][i] - (double)result[0][i]);
			most[run] = d <= most[run] ? most[run] : isnan(d) ? INFINITY : d;
		}
	bool alike = fmax(fmax(most[1], most[2]), most[3]) <= 10 * most[4] && most[4] < 1;
	printf("weights differ from those of 1 rank by at most: 2 ranks %.3g, 3 ranks %.3g, "
	       "4 ranks %.3g; 1 rank with sums in reverse order %.3g: %sof the same size\n",
		most[1], most[2], most[3], most[4], alike ? "" : "NOT ");
	return alike ? 0 : 1;
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "ranks", 1, 0, 'r' }, { "epochs", 1, 0, 'e' },
		{ "batch", 1, 0, 'b' }, { "data", 1, 0, 'd' }, { "seed", 1, 0, 's' },
		{ "accept", 1, 0, 'a' }, { "compare", 0, 0, 'c' }, { 0, 0, 0, 0 } };
	bool bad = false;
	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		long number = optarg ? strtol(optarg, NULL, 10) : 0;
		bad |= c == '?' || (strchr("reb", c) && (number < 1 || number > TRAINING));
		set.ranks = c == 'r' ? (int)number : set.ranks;
		set.epochs = c == 'e' ? (int)number : set.epochs;
		set.batch = c == 'b' ? (int)number : set.batch;
		set.accept = c == 'a' ? (int)number : set.accept;
		set.seed = c == 's' ? number : set.seed;
		set.folder = c == 'd' ? optarg : set.folder;
		set.compare |= c == 'c';
	}
	if (bad || optind < argc)
		die("usage", "train [--ranks N] [--epochs E] [--batch B] [--data FOLDER] [--seed S] "
			     "[--accept PERCENT] [--compare]\n"
			     "without --ranks: one rank of a job of mpirun, srun or torchrun");
	if (set.compare && set.epochs < 0) /* few steps: before rounding has turned over a ReLU */
		images = set.batch < TRAINING / 64 ? (size_t)set.batch * 64 : TRAINING;
	set.epochs = set.epochs > 0 ? set.epochs : set.compare ? 1 : 3;
	set.accept = set.accept >= 0 ? set.accept : set.compare ? 0 : 85;
	training.images = read_idx("train-images-idx3-ubyte", 3, TRAINING);
	training.labels = read_idx("train-labels-idx1-ubyte", 1, TRAINING);
	testing.images = read_idx("t10k-images-idx3-ubyte", 3, TESTING);
	testing.labels = read_idx("t10k-labels-idx1-ubyte", 1, TESTING);
	return set.compare ? compare() : set.ranks ? train_forked() : train(NULL);
}
