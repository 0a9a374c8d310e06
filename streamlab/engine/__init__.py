"""Pure operators: state in, batch in; results out. No clock, no socket, no disk.

============  ====================================================================================================
batch         rows on their way, with event time, partition, offset and place of arrival beside them
stream_time   stream time and idleness of the partitions of a source
watermark     the watermark of an operator at every record; turns: when within a batch it passed a time
stateless     row-by-row steps
operator      what every operator with state promises
catalogue     which operator does which step of a plan: the one table
operators/    one module, or folder, each
held/         what operators hold: rows by key, by time, or by both
aggregates    aggregations compiled to partial results
lower         a plan as a graph of stages that runs micro-batches
============  ====================================================================================================
"""
