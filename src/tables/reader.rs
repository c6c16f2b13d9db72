//! The strict reader: a file has exactly its table's columns, and every value is what its column says.
//!
//! It streams: memory is bounded by a batch of rows and a page of each column. Damage is an error, never a panic.

use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Fields};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::reader::ChunkReader;

use super::error::TableError;
use super::footer;
use super::row::{Column, TableRow, type_text};
use super::source::{SharedReader, batch_rows, guarded};

/// Most rows in a batch, for tables of small rows.
const BATCH_ROWS: usize = 1024;
/// Bytes that a batch should not exceed by much.
const BATCH_BYTES: usize = 8 << 20;

/// Starts to read a row group.
type OpenRowGroup = dyn Fn(&RowGroup) -> Result<ParquetRecordBatchReader, String> + Send;

/// Reads the rows of one file, one after the other.
pub struct TableReader<R: TableRow> {
    file: String,
    row_groups: std::vec::IntoIter<RowGroup>,
    open: Box<OpenRowGroup>,
    /// For each column of `R`, its place in a batch.
    places: Vec<usize>,
    current: Option<(RowGroup, ParquetRecordBatchReader)>,
    batch: Vec<ArrayRef>,
    batch_rows: usize,
    next_in_batch: usize,
    row: u64,
    row_count: u64,
    ended: bool,
    row_type: PhantomData<R>,
}

/// A row group whose rows are still to come.
#[derive(Clone, Copy)]
struct RowGroup {
    number: usize,
    batch_rows: usize,
    rows_left: u64,
}

impl<R: TableRow> TableReader<R> {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(name, file),
            Err(e) => Err(TableError::Open { file: name, problem: e.to_string() }),
        }
    }

    /// Reads from `source`: bytes or an open file. `file` is what messages call it.
    pub fn new(file: impl Into<String>, source: impl ChunkReader + 'static) -> Result<Self, TableError> {
        let file = file.into();
        let source = SharedReader::new(source);
        // The Parquet schema says all there is to know; an Arrow schema beside it could only disagree.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let damaged = |problem| TableError::Damaged { file: file.clone(), row_group: None, problem };
        footer::check(&source).map_err(damaged)?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&source, options)).map_err(damaged)?;
        let columns = R::columns();
        check_columns::<R>(&file, &columns, metadata.schema().fields())?;
        let wanted: Vec<usize> = (metadata.schema().fields().iter().enumerate())
            .filter(|(_, field)| columns.iter().any(|column| column.name == field.name()))
            .map(|(place, _)| place)
            .collect();
        let place_of = |column: &Column| wanted.iter().position(|&i| metadata.schema().field(i).name() == column.name);
        let places = columns.iter().filter_map(place_of).collect();
        let row_groups: Vec<RowGroup> = (metadata.metadata().row_groups().iter().enumerate())
            .map(|(number, group)| RowGroup {
                number,
                batch_rows: batch_rows(group, BATCH_BYTES, BATCH_ROWS),
                rows_left: u64::try_from(group.num_rows()).unwrap_or(0),
            })
            .collect();
        let row_count = row_groups.iter().map(|group| group.rows_left).sum();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
        let open = Box::new(move |group: &RowGroup| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), metadata.clone())
                .with_row_groups(vec![group.number])
                .with_projection(mask.clone())
                .with_batch_size(group.batch_rows);
            guarded(|| builder.build())
        });
        Ok(Self {
            file,
            row_groups: row_groups.into_iter(),
            open,
            places,
            current: None,
            batch: Vec::new(),
            batch_rows: 0,
            next_in_batch: 0,
            row: 0,
            row_count,
            ended: false,
            row_type: PhantomData,
        })
    }

    /// Rows in the file, by its footer.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    fn next_row(&mut self) -> Result<Option<R>, TableError> {
        while self.next_in_batch == self.batch_rows {
            if !self.next_batch()? {
                return Ok(None);
            }
        }
        let row = R::from_arrays(&self.batch, self.next_in_batch).map_err(|(number, problem)| TableError::Value {
            file: self.file.clone(),
            row: self.row,
            column: R::columns()[number].name.to_owned(),
            problem,
        })?;
        self.next_in_batch += 1;
        self.row += 1;
        Ok(Some(row))
    }

    /// Loads the next batch of rows; `false` at the end of the file.
    fn next_batch(&mut self) -> Result<bool, TableError> {
        let Some((mut group, mut batches)) = self.current.take() else {
            let Some(group) = self.row_groups.next() else { return Ok(false) };
            let batches = (self.open)(&group).map_err(|problem| self.damaged(&group, problem))?;
            self.current = Some((group, batches));
            return Ok(true);
        };
        match guarded(|| batches.next().transpose()).map_err(|problem| self.damaged(&group, problem))? {
            Some(batch) => {
                let rows = batch.num_rows() as u64;
                group.rows_left = group.rows_left.checked_sub(rows).ok_or_else(|| {
                    self.damaged(&group, format!("more rows than the {} that were announced", self.row_count))
                })?;
                self.take_batch(&batch);
                self.current = Some((group, batches));
            }
            None if group.rows_left > 0 => {
                return Err(self.damaged(&group, format!("{} rows are missing", group.rows_left)));
            }
            None => {}
        }
        Ok(true)
    }

    fn take_batch(&mut self, batch: &RecordBatch) {
        self.batch = self.places.iter().map(|&place| Arc::clone(batch.column(place))).collect();
        self.batch_rows = batch.num_rows();
        self.next_in_batch = 0;
    }

    fn damaged(&self, group: &RowGroup, problem: String) -> TableError {
        TableError::Damaged { file: self.file.clone(), row_group: Some(group.number), problem }
    }
}

impl<R: TableRow> Iterator for TableReader<R> {
    type Item = Result<R, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.next_row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// All rows of the file at `path`.
pub fn read_file<R: TableRow>(path: &Path) -> Result<Vec<R>, TableError> {
    TableReader::open(path)?.collect()
}

/// All rows of `source`, which messages call `file`.
pub fn read<R: TableRow>(file: impl Into<String>, source: impl ChunkReader + 'static) -> Result<Vec<R>, TableError> {
    TableReader::new(file, source)?.collect()
}

fn check_columns<R: TableRow>(file: &str, columns: &[Column], found: &Fields) -> Result<(), TableError> {
    let (file, table) = (|| file.to_owned(), R::TABLE);
    for column in columns {
        let name = || column.name.to_owned();
        let expected = type_text(&column.data_type);
        let Some((_, field)) = found.find(column.name) else {
            return Err(TableError::MissingColumn { file: file(), table, column: name(), expected });
        };
        if !same_type(&column.data_type, field.data_type()) {
            let found = type_text(field.data_type());
            return Err(TableError::WrongType { file: file(), table, column: name(), expected, found });
        }
    }
    for (place, field) in found.iter().enumerate() {
        let known = columns.iter().any(|column| column.name == field.name());
        let twice = found.iter().take(place).any(|other| other.name() == field.name());
        if R::HAS_ALL_COLUMNS && !known || known && twice {
            return Err(TableError::ExtraColumn { file: file(), table, column: field.name().clone() });
        }
    }
    Ok(())
}

/// Whether values of both types are the same. What may be null is checked value by value: other programs declare every
/// column nullable. They also name the items of lists differently, and order the fields of structs as they like.
fn same_type(expected: &DataType, found: &DataType) -> bool {
    match (expected, found) {
        (DataType::List(a), DataType::List(b)) => same_type(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            let is_there = |field: &FieldRef| {
                b.find(field.name()).is_some_and(|(_, other)| same_type(field.data_type(), other.data_type()))
            };
            a.len() == b.len() && a.iter().all(is_there)
        }
        (a, b) => a == b,
    }
}
