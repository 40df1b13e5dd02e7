// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pipeline from the disk to the consumer.
 *
 * - A worker takes the next chunk and the slot that belongs to it, chunk number
 *   modulo number of slots, and does everything for it: no queue in between.
 * - A slot is a worker's from the moment it took the chunk until it is ready,
 *   and the consumer's from then until the chunk is consumed.
 * - All memory is present before the first chunk: while the kernel takes the
 *   image there may be none left.
 */
#include "chunks.h"

#include "clock.h"

#include <lz4.h>
#include <pthread.h>
#include <sched.h>
#include <xxhash.h>

#define WORKERS_MIN 2U
#define WORKERS_MAX 8U
#define SLOTS_MAX (WORKERS_MAX + 2)
#define STACK_BYTES (256U * 1024U)

struct slot {
	u8 *buffer;
	const u8 *bytes;	/* raw bytes, somewhere in the buffer */
	bool is_ready;
	bool has_failed;
	struct reason why;
};

struct pipeline {
	const struct disk *disk;
	const struct header *header;
	u64 area_offset;
	size_t slot_bytes;
	size_t stored_capacity;
	unsigned int slot_count;
	struct slot slots[SLOTS_MAX];

	pthread_mutex_t lock;	/* for everything below and is_ready */
	pthread_cond_t slot_ready;
	pthread_cond_t slot_free;
	u32 next;		/* the next chunk a worker takes */
	u32 consumed;		/* chunks before this one are consumed */
	bool is_stopping;
	struct chunk_times times;
};

struct worker {
	pthread_t thread;
	struct pipeline *pipeline;
	u8 *stored;		/* buffer for compressed bytes */
};

static int fill_slot(const struct pipeline *pipeline, u8 *stored,
		     const struct chunk *chunk, u32 index, struct slot *slot,
		     struct chunk_times *times)
{
	u8 *const target = chunk->codec == CODEC_STORED ? slot->buffer : stored;
	u64 start, end;
	u8 *bytes;
	int raw;

	start = clock_ns();
	bytes = disk_read_span(pipeline->disk, target,
			       pipeline->area_offset + chunk->offset,
			       chunk->stored_bytes, &slot->why);
	end = clock_ns();
	times->read_ns += end - start;
	if (!bytes)
		return -1;

	start = end;
	if (XXH64(bytes, chunk->stored_bytes, 0) != chunk->digest)
		return refuse(&slot->why, "chunk %u has a wrong digest", index);
	end = clock_ns();
	times->digest_ns += end - start;

	slot->bytes = bytes;
	if (chunk->codec == CODEC_STORED)
		return 0;
	raw = LZ4_decompress_safe((const char *)bytes, (char *)slot->buffer,
				  (int)chunk->stored_bytes,
				  (int)chunk->raw_bytes);
	times->decompress_ns += clock_ns() - end;
	if (raw != (int)chunk->raw_bytes)
		return refuse(&slot->why, "chunk %u cannot be decompressed",
			      index);
	slot->bytes = slot->buffer;
	return 0;
}

/* Under the lock. False when there is nothing more to do. */
static bool take_chunk(struct pipeline *pipeline, u32 *index)
{
	const u32 count = pipeline->header->chunk_count;

	while (!pipeline->is_stopping && pipeline->next < count &&
	       pipeline->next - pipeline->consumed >= pipeline->slot_count)
		pthread_cond_wait(&pipeline->slot_free, &pipeline->lock);
	if (pipeline->is_stopping || pipeline->next >= count)
		return false;
	*index = pipeline->next++;
	return true;
}

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	struct pipeline *pipeline = worker->pipeline;
	struct chunk_times times = { 0 };
	u32 index;

	pthread_mutex_lock(&pipeline->lock);
	while (take_chunk(pipeline, &index)) {
		const struct chunk chunk = header_chunk(pipeline->header, index);
		struct slot *slot =
			&pipeline->slots[index % pipeline->slot_count];
		bool has_failed;

		pthread_mutex_unlock(&pipeline->lock);
		has_failed = fill_slot(pipeline, worker->stored, &chunk, index,
				       slot, &times);
		pthread_mutex_lock(&pipeline->lock);
		slot->has_failed = has_failed;
		slot->is_ready = true;
		pthread_cond_signal(&pipeline->slot_ready);
	}
	pipeline->times.read_ns += times.read_ns;
	pipeline->times.digest_ns += times.digest_ns;
	pipeline->times.decompress_ns += times.decompress_ns;
	pthread_mutex_unlock(&pipeline->lock);
	return NULL;
}

static int consume_all(struct pipeline *pipeline, chunk_consumer consume,
		       void *context, struct reason *why)
{
	for (u32 i = 0; i < pipeline->header->chunk_count; i++) {
		struct slot *slot = &pipeline->slots[i % pipeline->slot_count];
		const u64 start = clock_ns();
		u64 ready;

		pthread_mutex_lock(&pipeline->lock);
		while (!slot->is_ready)
			pthread_cond_wait(&pipeline->slot_ready,
					  &pipeline->lock);
		pthread_mutex_unlock(&pipeline->lock);
		ready = clock_ns();
		pipeline->times.wait_ns += ready - start;
		if (slot->has_failed) {
			*why = slot->why;
			return -1;
		}
		if (consume(context, slot->bytes,
			    header_chunk(pipeline->header, i).raw_bytes, why))
			return -1;
		pipeline->times.consume_ns += clock_ns() - ready;

		pthread_mutex_lock(&pipeline->lock);
		slot->is_ready = false;
		pipeline->consumed = i + 1;
		pthread_cond_signal(&pipeline->slot_free);
		pthread_mutex_unlock(&pipeline->lock);
	}
	return 0;
}

static unsigned int count_workers(u32 chunk_count)
{
	unsigned int workers = WORKERS_MIN;
	cpu_set_t cpus;

	if (!sched_getaffinity(0, sizeof(cpus), &cpus))
		workers = (unsigned int)CPU_COUNT(&cpus);
	if (workers < WORKERS_MIN)
		workers = WORKERS_MIN;
	if (workers > WORKERS_MAX)
		workers = WORKERS_MAX;
	return workers < chunk_count ? workers : chunk_count;
}

static int allocate_slots(struct pipeline *pipeline)
{
	for (unsigned int i = 0; i < pipeline->slot_count; i++) {
		pipeline->slots[i].buffer =
			pages_allocate(pipeline->slot_bytes);
		if (!pipeline->slots[i].buffer)
			return -1;
	}
	return 0;
}

static unsigned int start_workers(struct pipeline *pipeline,
				  struct worker *workers, unsigned int count)
{
	unsigned int started;
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	for (started = 0; started < count; started++) {
		struct worker *worker = &workers[started];

		worker->pipeline = pipeline;
		worker->stored = pages_allocate(pipeline->stored_capacity);
		if (!worker->stored)
			break;
		if (pthread_create(&worker->thread, &attributes, run_worker,
				   worker)) {
			pages_free(worker->stored, pipeline->stored_capacity);
			break;
		}
	}
	pthread_attr_destroy(&attributes);
	return started;
}

static void stop_workers(struct pipeline *pipeline, struct worker *workers,
			 unsigned int count)
{
	pthread_mutex_lock(&pipeline->lock);
	pipeline->is_stopping = true;
	pthread_cond_broadcast(&pipeline->slot_free);
	pthread_mutex_unlock(&pipeline->lock);
	for (unsigned int i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		pages_free(workers[i].stored, pipeline->stored_capacity);
	}
}

int chunks_run(const struct disk *disk, const struct superblock *superblock,
	       const struct header *header, chunk_consumer consume,
	       void *context, struct chunk_times *times, struct reason *why)
{
	struct pipeline pipeline = {
		.disk = disk,
		.header = header,
		.area_offset = superblock->image_area_offset,
		.slot_bytes = span_capacity(header->chunk_raw_bytes),
		.stored_capacity = span_capacity((size_t)
			LZ4_COMPRESSBOUND(header->chunk_raw_bytes)),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.slot_ready = PTHREAD_COND_INITIALIZER,
		.slot_free = PTHREAD_COND_INITIALIZER,
	};
	const unsigned int wanted = count_workers(header->chunk_count);
	struct worker workers[WORKERS_MAX];
	int result = -1;

	pipeline.slot_count = wanted + 2;
	if (allocate_slots(&pipeline)) {
		refuse(why, "out of memory for the chunks");
		goto free_slots;
	}
	pipeline.times.threads = start_workers(&pipeline, workers, wanted);
	if (pipeline.times.threads)
		result = consume_all(&pipeline, consume, context, why);
	else
		refuse(why, "cannot start a thread");
	stop_workers(&pipeline, workers, pipeline.times.threads);
	*times = pipeline.times;
free_slots:
	for (unsigned int i = 0; i < pipeline.slot_count; i++)
		pages_free(pipeline.slots[i].buffer, pipeline.slot_bytes);
	return result;
}
