// Says what a file is told to contain: the test appends lines to it. Lines that begin with "!" are errors.
import { openSync, readSync, writeFileSync } from 'node:fs';
const path = process.argv[2], buffer = Buffer.alloc(65536);
writeFileSync(path, '', { flag: 'a' });
const file = openSync(path);
let rest = '';
setInterval(() => {
  rest += buffer.toString('utf8', 0, readSync(file, buffer));
  const lines = rest.split('\n');
  rest = lines.pop();
  for (const line of lines) (line[0] === '!' ? console.error : console.log)(line.replace(/^!/, ''));
}, 20);
